"""Outputs of runs that move in lie in a folder of the test: another's run may have that number."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _runs_dir(tmp_path: Path, settings: Any) -> None:
    settings.RUNS_DIR = tmp_path / "runs"
