"""What the tests of skills share."""

import shutil
from pathlib import Path

import pytest
from django.utils import translation

from daemon_app.demo import GpuService, Ollama


@pytest.fixture(autouse=True)
def _in_english():
    with translation.override("en"):
        yield


@pytest.fixture(autouse=True)
def _no_memories(settings):
    """What skills keep between their runs is not there yet."""
    shutil.rmtree(Path(settings.DATA_DIR) / "skills", ignore_errors=True)


@pytest.fixture
def service(settings):
    with GpuService(total_mb=20_000.0) as double:
        settings.GPU_SERVICE_URL = double.url
        yield double


@pytest.fixture
def ollama(settings):
    with Ollama() as double:
        settings.OLLAMA_URL = double.url
        yield double
