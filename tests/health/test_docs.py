"""The example of docs/health.md is a check."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon_app.checks import CHECKS, Context
from daemon_app.checks.lookout import Lookout
from daemon_app.models import Policy
from daemon_app.readings import State

PAGE = Path(__file__).parents[2] / "docs" / "health.md"


@pytest.mark.parametrize(
    ("reads", "state", "value"),
    [("41500", State.OK, 41.5), ("90000", State.HIGH, 90.0), (None, State.UNKNOWN, None)],
)
def test_the_example_of_a_check_works_as_it_stands(tmp_path: Path, reads, state, value) -> None:
    code = next(
        c for c in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "@check" in c
    )
    namespace: dict[str, object] = {}
    try:
        exec(compile(code, str(PAGE), "exec"), namespace)
        namespace["SENSOR"] = sensor = tmp_path / "temp"
        if reads:
            sensor.write_text(reads)
        context = Context(datetime(2026, 11, 24, tzinfo=UTC), Policy(), tmp_path)
        example = {"temperature": CHECKS["temperature"]}
        reading = Lookout(example).look(context, 20)["temperature"]
    finally:
        CHECKS.pop("temperature", None)

    assert (reading.state, reading.value) == (state, value)
