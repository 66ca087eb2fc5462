"""Row 21: a pickle that somebody planted is never opened."""

import base64
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.live.web import ROOT
from tests.security.routes import TABLE, Samples, address
from tests.security.site import PATIENCE, Site


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def trap(canary: Path) -> str:
    """A pickle as django-q2 and Django's old sessions keep them, which does something."""
    return base64.b64encode(pickle.dumps(Trap(canary))).decode()


@pytest.fixture
def cluster(site: Site) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, ROOT / "manage.py", "qcluster"],
        env=site.web.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)


def test_a_planted_result_lies_in_the_database_and_nobody_loads_it(
    site: Site, samples: Samples, canary: Path, trap: str
) -> None:
    site.run_there(
        "from django.db import connection\n"
        "from django_q.models import Schedule, Task\n"
        "def plant(trap):\n"
        "    Task.objects.create(id='planted', name='x', func='x', started=timezone.now(),\n"
        "        stopped=timezone.now(), success=True)\n"
        "    with connection.cursor() as cursor:\n"
        "        cursor.execute('UPDATE django_q_task SET result=%s, args=%s', [trap, trap])\n"
    )
    site.tell(f"plant({trap!r})")
    person = site.person("admin")

    for route in TABLE:
        site.ask("GET", address(route, "GET", samples), by=person)
    for path in ("/admin/django_q/task/", "/admin/django_q/ormq/", "/admin/django_q/schedule/add/"):
        assert site.get(path, person).status == 404
    site.tell("Job.objects.count()")

    assert not canary.exists()
    # The trap is a real one.
    site.tell("Task.objects.get(id='planted').result")
    assert canary.exists()
    site.tell("connection.cursor().execute('DELETE FROM django_q_task') and None")


def test_a_message_nobody_signed_is_thrown_away_unopened(
    site: Site, canary: Path, trap: str, cluster: None
) -> None:
    site.run_there(
        "from django_q.models import OrmQ\n"
        "from django_q.signing import SignedPackage\n"
        "from django.core import signing\n"
        "from daemon_app import executor\n"
        "def plant_messages(trap):\n"
        "    good = SignedPackage.dumps({'x': 1})\n"
        "    payload = trap.rstrip('=').replace('+', '-').replace('/', '_')\n"
        "    stamp = good.split(':')[1]\n"
        "    foreign = signing.TimestampSigner(key='x' * 50, salt='bach').sign(payload)\n"
        "    moved = payload + good[good.index(':'):]\n"
        "    forged = [trap, payload, foreign, moved, f'{payload}:{stamp}:x']\n"
        "    for message in [*forged, good[:-1] + ('A' if good[-1] != 'A' else 'B')]:\n"
        "        OrmQ.objects.create(key='bach', lock=timezone.now(), payload=message)\n"
        "    executor.submit([(10**9, 0.0)], timezone.now())\n"
        "    return OrmQ.objects.count()\n"
    )

    assert site.tell(f"plant_messages({trap!r})") == 7

    deadline = time.monotonic() + PATIENCE
    while site.tell("OrmQ.objects.count()") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert site.tell("OrmQ.objects.count()") == 0
    assert not canary.exists()


def test_a_planted_session_is_no_session_and_is_not_opened(
    site: Site, canary: Path, trap: str
) -> None:
    site.run_there(
        "from django.contrib.sessions.models import Session\n"
        "def plant_session(trap):\n"
        "    for n, data in enumerate([trap, ':' + trap, trap + ':1:x']):\n"
        "        Session.objects.create(session_key=f'planted{n}', session_data=data,\n"
        "            expire_date=timezone.now() + timedelta(days=1))\n"
    )
    site.tell(f"plant_session({trap!r})")

    for n in range(3):
        answer = site.get("/daemon/", None, ("Cookie", f"{site.cookie}=planted{n}"))
        assert answer.leads_to_sign_in

    assert not canary.exists()


def test_sessions_and_messages_are_json_and_no_cache_outlives_its_process() -> None:
    assert settings.SESSION_SERIALIZER == "django.contrib.sessions.serializers.JSONSerializer"
    assert settings.SESSION_ENGINE == "django.contrib.sessions.backends.db"
    backends = {cache["BACKEND"] for cache in settings.CACHES.values()}
    assert backends == {"django.core.cache.backends.locmem.LocMemCache"}
    assert settings.Q_CLUSTER["save_limit"] == -1
    assert not settings.Q_CLUSTER["scheduler"]
