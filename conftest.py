"""Before any setting is read: tests never touch the data of a BACH that runs here."""

import atexit
import os
import shutil
import tempfile

for name in [*os.environ]:
    if name == "DATABASE_URL" or (name.startswith("BACH_") and not name.startswith("BACH_TEST_")):
        del os.environ[name]

# Short, for the addresses of Unix sockets lie in it: they may have 107 bytes, on macOS 103.
DATA_DIR = tempfile.mkdtemp(prefix="bach-test-", dir="/tmp")
atexit.register(shutil.rmtree, DATA_DIR, ignore_errors=True)
os.environ["BACH_DATA_DIR"] = DATA_DIR
# Here and not in pyproject.toml: pytest-django reads settings named there before this file.
os.environ["DJANGO_SETTINGS_MODULE"] = "bachweb.settings"

import django  # noqa: E402 - reads the environment above
from django.conf import settings  # noqa: E402

# A file, not memory: the daemon and the cluster of a test are processes of their own.
settings.DATABASES["default"]["TEST"] = {"NAME": f"{DATA_DIR}/test.sqlite3"}
django.setup()
