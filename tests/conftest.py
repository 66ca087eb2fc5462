"""What all tests share."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pytest
from django.db import connection, transaction

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


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Let the tables be emptied between tests: of the audit log the database refuses that."""
    guard = import_module("daemon_app.migrations.0005_moving_in")
    empty = connection.ops.execute_sql_flush

    def unlocked(statements: Iterable[str]) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            for statement in guard.GONE[connection.vendor]:
                cursor.execute(statement)
            empty(statements)
            for statement in guard.KEPT[connection.vendor]:
                cursor.execute(statement)

    connection.ops.execute_sql_flush = unlocked  # type: ignore[method-assign, assignment]


@pytest.fixture(autouse=True)
def _nothing_is_known_of_other_jobs() -> None:
    """Forget what is remembered of all jobs: those of another test may have the same numbers."""
    forecast.forget()
