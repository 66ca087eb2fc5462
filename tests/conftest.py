"""What all tests share."""

from pathlib import Path

import pytest

from daemon_app import forecast

BROWSER = Path(__file__).parent / "browser"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the browser's tests to a run of their own: `pytest tests/browser`.

    Playwright keeps an event loop running in the main thread, in which neither an async test nor
    Django's database would work.
    """
    if collection_path != BROWSER:
        return None
    asked = (Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args)
    if any(path == BROWSER or BROWSER in path.parents for path in asked):
        return None
    return True


@pytest.fixture(autouse=True)
def _nothing_is_known_of_other_jobs() -> None:
    """Forget what is remembered of all jobs: those of another test may have the same numbers."""
    forecast.forget()
