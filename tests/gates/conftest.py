"""What all tests of gates share."""

import pytest


@pytest.fixture(autouse=True)
def _here(settings) -> None:
    """Let the machine stand in Berlin, wherever the tests run."""
    settings.TIME_ZONE = "Europe/Berlin"
