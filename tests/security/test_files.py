"""Row 22: what lies on the disk is for its owner alone."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from bachweb import machine
from tests.stack import BACH, Stack

PATIENCE = 30.0  # seconds
RUN_JOB = """
import django
django.setup()
from django.utils import timezone
from daemon_app import scheduler
from daemon_app.models import Job, Run
now = timezone.now()
job = Job(name="wrote", job_type="manual", command="echo hello").store(now=now, by="x")
run = scheduler.start(job, trigger=Run.Trigger.CLI, by="x", now=now).run
print(run.pk)
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack()
    try:
        # What the machine would give to everybody.
        before = os.umask(0)
        try:
            stack.start()
        finally:
            os.umask(before)
        yield stack
    finally:
        stack.close()


def open_to_others(folder: Path) -> list[str]:
    """Return what in `folder`, itself included, others may do anything with."""
    found = []
    for path in [folder, *folder.rglob("*")]:
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # it was removed while we looked
        if not stat.S_ISLNK(status.st_mode) and (
            status.st_mode & 0o077 or status.st_uid != os.geteuid()
        ):
            found.append(f"{stat.filemode(status.st_mode)} {path}")
    return found


def test_everything_in_the_data_folder_is_its_owners_alone(stack: Stack) -> None:
    stack.login_link()
    stack.bach("daemon", "token", "create", "--name", "test")
    env = {**stack.env, "DJANGO_SETTINGS_MODULE": "bachweb.settings"}
    made = subprocess.run(
        [sys.executable, "-c", RUN_JOB], env=env, capture_output=True, text=True, check=True
    )
    folder = stack.data_dir / "runs" / "0" / made.stdout.strip()
    deadline = time.monotonic() + PATIENCE
    while not (folder / "result.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)

    names = {path.name for path in stack.data_dir.rglob("*")}
    assert {"bach.sqlite3", "bach.sqlite3-wal", "secret.key", "daemon.pid", "result.json"} <= names
    assert any(name.endswith(".sock") for name in names)
    assert open_to_others(stack.data_dir) == []

    stack.stop()

    assert open_to_others(stack.data_dir) == []


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "secret.key"
    first = machine.secret(key)

    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(first) == 128
    assert machine.secret(key) == first
    for mode in (0o640, 0o604, 0o620, 0o602, 0o644):
        key.chmod(mode)
        with pytest.raises(ImproperlyConfigured, match="chmod 600"):
            machine.secret(key)


def test_a_folder_open_to_others_is_closed_and_a_strangers_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)

    machine.private_directory(folder)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(ImproperlyConfigured, match="another user"):
        machine.private_directory(folder)


def test_a_key_put_aside_still_vouches_for_what_it_signed(tmp_path: Path) -> None:
    key, aside = tmp_path / "secret.key", tmp_path / "secret.key.old"
    before = machine.secret(key)
    assert machine.old_secrets(aside) == []

    key.rename(aside)

    assert machine.secret(key) != before
    assert machine.old_secrets(aside) == [before]
    aside.chmod(0o644)
    with pytest.raises(ImproperlyConfigured, match="chmod 600"):
        machine.old_secrets(aside)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"BACH_HOST": "0.0.0.0"}, "BACH_TLS"),
        ({"BACH_HOST": "0.0.0.0", "BACH_TLS": "1"}, "bach daemon login"),
        ({"BACH_TRUSTED_PROXIES": "127.0.0.1"}, "bach daemon login"),
        ({"BACH_TRUSTED_PROXIES": "proxy.example"}, "BACH_TRUSTED_PROXIES"),
        ({"BACH_ORIGINS": "bach.example"}, "BACH_ORIGINS"),
    ],
)
def test_row_23_what_would_be_open_to_the_network_does_not_start(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    env = {
        **{name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
        "BACH_DATA_DIR": str(tmp_path / "data"),
        "LANG": "de_DE.UTF-8",
        **settings,
    }

    ended = subprocess.run(
        [BACH, "gui", "start", "--port", "29999"],
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert ended.returncode != 0
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
