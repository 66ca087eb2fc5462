"""From a checkout to something that runs: the scripts behind `make run`, and the wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def find_python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run .ci/python where `folder` is all the machine has."""
    for tool in ("cat", "sh"):
        where = shutil.which(tool)
        assert where
        (folder / tool).symlink_to(where)
    return subprocess.run(
        ["sh", ROOT / ".ci/python", *arguments],
        env={"PATH": str(folder), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def fake_python(path: Path, *, new_enough: bool, complete: bool) -> None:
    """Write a program that answers the questions of .ci/python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        f"*version_info\\ \\<*) exit {0 if new_enough else 1} ;;\n"
        f"*ensurepip*) exit {0 if complete else 1} ;;\n"
        "*print*) echo 3.11 ;;\n"
        "esac\n"
    )
    path.chmod(0o755)


def test_the_newest_python_that_the_tests_run_on_is_taken(tmp_path: Path) -> None:
    for name in ("python3", "python3.11", "python3.12"):
        fake_python(tmp_path / name, new_enough=True, complete=True)

    answer = find_python(tmp_path)

    assert answer.stdout == f"{tmp_path}/python3.12\n"


def test_a_machine_without_a_new_python_is_told_how_to_get_one(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3", new_enough=False, complete=True)

    answer = find_python(tmp_path)

    assert answer.returncode == 1
    assert "BACH needs Python 3.11 or newer" in answer.stderr
    assert "apt-get install" in answer.stderr


def test_a_debian_without_venv_is_told_which_package_it_lacks(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3", new_enough=True, complete=False)

    answer = find_python(tmp_path)

    assert answer.returncode == 1
    assert "sudo apt-get install python3.11-venv" in answer.stderr


def test_a_python_that_is_not_on_the_path_is_found_in_pyenvs_folder(tmp_path: Path) -> None:
    python = tmp_path / ".pyenv/versions/3.13.5/bin/python3.13"
    fake_python(python, new_enough=True, complete=True)

    assert find_python(tmp_path, "3.13").stdout == f"{python}\n"


@pytest.mark.parametrize("changed", ["requirements.txt", "pyproject.toml", None])
def test_an_environment_is_installed_again_only_when_its_sources_changed(
    tmp_path: Path, changed: str | None
) -> None:
    calls = tmp_path / "calls"
    for name in ("requirements.txt", "pyproject.toml", "setup.py"):
        (tmp_path / name).write_text(f"# {name}\n")
    python = tmp_path / ".venv/bin/python"
    fake_python(python, new_enough=True, complete=True)
    python.write_text(python.read_text() + f'echo "$@" >> {calls}\n')
    (tmp_path / ".venv/pyvenv.cfg").touch()

    for round_ in (1, 2):
        subprocess.run(
            ["sh", ROOT / ".ci/venv", ".venv", "requirements.txt"], cwd=tmp_path, check=True
        )
        if round_ == 1 and changed:
            (tmp_path / changed).write_text("# changed\n")

    installed = calls.read_text().count("--require-hashes -r requirements.txt")
    assert installed == (2 if changed else 1)


def test_a_wheel_carries_pages_styles_and_the_german_catalogue(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for folder in ("bachweb", "daemon_app", "templates", "static", "locale"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)

    offline = ("--no-index", "--no-deps", "--no-build-isolation")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", *offline, "-w", tmp_path, source],
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )

    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "daemon_app/templates/daemon/base.html" in names
    assert "daemon_app/static/daemon/css/tokens.css" in names
    assert "daemon_app/locale/de/LC_MESSAGES/django.mo" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "templates/"))]
