"""Each code that can stand in an error is in the handbook, with its status; and no other."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from daemon_app.api.errors import KNOWN

ROOT = Path(__file__).parent.parent.parent
SOURCES = [
    *sorted((ROOT / "daemon_app/api").glob("*.py")),
    ROOT / "daemon_app/guard.py",
    ROOT / "daemon_app/views/errors.py",
]
# Who makes errors: what it is called with begins with status and code.
MAKERS = {"Problem", "Refusal", "_told"}
ROW = re.compile(r"\| `(\w+)` \| (\d+) \|")
Codes = dict[str, set[int]]


def calls(source: Path, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield node


def in_the_code() -> Codes:
    found: Codes = defaultdict(set)
    for _kind, status, code, _text in KNOWN:
        found[code].add(status)
    for source in SOURCES:
        for call in calls(source, MAKERS):
            match call.args:
                case [ast.Constant(int(status)), ast.Constant(str(code)), *_rest]:
                    found[code].add(status)
    # Why a job does not start is said by the scheduler.
    for call in calls(ROOT / "daemon_app/scheduler.py", {"Started"}):
        match call.args:
            case [ast.Constant(None), ast.Constant(str(code)), *_rest]:
                found[code].add(404 if code == "gone" else 409)
    return found


def in_the_handbook() -> Codes:
    found: Codes = defaultdict(set)
    for code, status in ROW.findall((ROOT / "docs/api.md").read_text()):
        found[code].add(int(status))
    return found


def test_each_code_of_an_error_stands_in_the_handbook_with_its_status() -> None:
    assert in_the_code() == in_the_handbook()


def test_no_code_is_made_up_while_the_program_runs() -> None:
    # But for the scheduler's, and what is handed on by those who make errors.
    handed_on = {
        (source.name, ast.unparse(call.args[1]))
        for source in SOURCES
        for call in calls(source, MAKERS)
        if len(call.args) > 1 and not isinstance(call.args[1], ast.Constant)
    }

    assert {code for name, code in handed_on if name == "jobs.py"} == {"started.code"}
    assert {name for name, _code in handed_on} <= {"jobs.py", "errors.py"}


def test_codes_stand_in_order() -> None:
    codes = [code for code, _status in ROW.findall((ROOT / "docs/api.md").read_text())]

    assert codes == sorted(codes)
