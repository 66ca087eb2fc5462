"""How a skill is executed: the command and the environment of the process that runs it."""

import os
import sys
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.db import connection

# What our settings read, beside the names that begin with BACH_; and those of them that a run is
# given, which are not ours to hand on.
READ = ("DATABASE_URL", "DJANGO_SETTINGS_MODULE", "GPU_SERVICE_URL", "OLLAMA_URL")
OF_A_RUN = {"BACH_STOP", "BACH_PROGRESS", "BACH_PROGRESS_TOKEN", "BACH_FENCE", "BACH_RUN_ID"}


def command_line(name: str) -> list[str]:
    """Return the arguments that run the skill `name`.

    Modules are not looked for in the working folder: a `json.py` there would be ours otherwise.
    """
    return [sys.executable, "-P", "-m", "daemon_app.skills", name]


def environment() -> dict[str, str]:
    """Return what a skill's process needs beside a command's environment: our settings.

    They say the same there as here, the database included, whatever has changed it meanwhile.
    """
    names = {*READ, *(name for name in os.environ if name.startswith("BACH_"))} - OF_A_RUN
    told = {name: os.environ[name] for name in sorted(names) if name in os.environ}
    told["BACH_DATA_DIR"] = str(Path(settings.DATA_DIR).absolute())
    if connection.vendor == "sqlite":
        told["DATABASE_URL"] = f"sqlite:///{quote(str(connection.settings_dict['NAME']))}"
    path = [str(Path(settings.BASE_DIR)), os.environ.get("PYTHONPATH", "")]
    told["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    told.setdefault("DJANGO_SETTINGS_MODULE", "bachweb.settings")
    return told
