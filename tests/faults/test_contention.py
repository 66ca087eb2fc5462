"""C2: eight schedulers and eight claimers on one SQLite file."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from daemon_app.models import Run
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db(transaction=True)

JOBS, SECONDS = 30, 10
CONTENDERS = Path(__file__).with_name("contenders.py")


def test_each_occurrence_becomes_one_row_and_goes_to_one_claimer(tmp_path) -> None:
    for number in range(JOBS):
        name = f"job {number}"
        parallel = SECONDS + 1
        job(name, job_type="interval", schedule="1s", overlap="parallel", max_instances=parallel)
    until = NOON + timedelta(seconds=SECONDS)

    subprocess.run(
        [
            *(sys.executable, CONTENDERS, str(connection.settings_dict["NAME"])),
            *(until.isoformat(), str(SECONDS), tmp_path),
        ],
        check=True,
        env={
            **os.environ,
            "BACH_DATA_DIR": str(settings.DATA_DIR),
            "DJANGO_SETTINGS_MODULE": "bachweb.settings",
            "PYTHONPATH": str(settings.BASE_DIR),
        },
        timeout=100,
    )

    told = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert [each["error"] for each in told if "error" in each] == []
    assert Run.objects.filter(due_at__lte=until).count() == JOBS * SECONDS
    won = [tuple(claimed) for each in told for claimed in each.get("mine", [])]
    assert sorted(won) == [
        (pk, 1) for pk in Run.objects.running().order_by("pk").values_list("pk", flat=True)
    ]
    assert not Run.objects.queued().filter(not_before__lte=until).exists()
    owners = Counter(Run.objects.running().values_list("owner", flat=True))
    assert len(owners) > 1  # or else nobody contended
