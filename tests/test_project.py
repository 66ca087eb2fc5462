"""Rules that hold for the whole tree, and that no other tool watches."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (
    ".ci",
    "bachweb",
    "bench",
    "daemon_app",
    "docs",
    "locale",
    "static",
    "templates",
    "tests",
)
TEXT = {".cfg", ".css", ".html", ".js", ".md", ".po", ".py", ".svg", ".toml", ".txt", ""}


def files(*suffixes: str, under: str = "") -> list[Path]:
    """Return the files of the project, without what tools leave behind."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(
        path
        for path in found
        if "__pycache__" not in path.parts
        and (path.suffix in suffixes or path.suffix + "$" in suffixes)
        and path.is_relative_to(ROOT / under)
    )


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PYTHON = files(".py", under="bachweb") + files(".py", under="daemon_app")
TEMPLATES = files(".html", under="templates")
LOCKS = [ROOT / "requirements.txt", ROOT / "requirements-dev.txt"]
TEXT_FILES = files(*TEXT)


class Strictness(HTMLParser):
    """Collects what a strict content security policy forbids, and addresses of other servers."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks: list[str] = []
        self.in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.in_script = tag == "script" and "src" not in given
        if tag == "style":
            self.breaks.append("a <style> element")
        for name, value in attrs:
            if name == "style" or name.startswith(("on", "hx-on")):
                self.breaks.append(f'{name}="{value}"')
            if re.match(r"(https?:)?//", value or "") and name != "xmlns":
                self.breaks.append(f"{name}={value}")
            if (value or "").strip().lower().startswith("javascript:"):
                self.breaks.append(f"{name}={value}")

    def handle_data(self, data: str) -> None:
        if self.in_script and data.strip():
            self.breaks.append(f"an inline script: {data.strip()[:60]}")

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False


@pytest.mark.parametrize(
    "html",
    [
        '<p style="color:red">',
        '<button onclick="go()">',
        '<a hx-on::load="go()">',
        "<script>go()</script>",
        '<script src="https://cdn.example/x.js"></script>',
        '<img src="//cdn.example/x.png">',
        '<a href="javascript:go()">',
        "<style>p { color: red }</style>",
    ],
)
def test_the_reader_of_templates_sees_what_is_forbidden(html: str) -> None:
    reader = Strictness()

    reader.feed(html)

    assert reader.breaks


@pytest.mark.parametrize("template", TEMPLATES, ids=named)
def test_a_template_fits_the_strict_policy_and_names_no_other_server(template: Path) -> None:
    # Django's tags may stand inside of attributes, where they would confuse the reader.
    source = re.sub(r"\{#.*?#\}|\{%.*?%\}", " ", template.read_text(), flags=re.DOTALL)
    source = re.sub(r"\{\{.*?\}\}", "value", source, flags=re.DOTALL)
    reader = Strictness()

    reader.feed(source)

    assert not reader.breaks


@pytest.mark.parametrize("style", files(".css", ".js", under="static"), ids=named)
def test_styles_and_scripts_fetch_nothing_from_elsewhere(style: Path) -> None:
    source = style.read_text().replace("http://www.w3.org/2000/svg", "")

    assert not re.findall(r"https?://[^\s'\")]+|url\(\s*['\"]?//", source)


@pytest.mark.parametrize("module", PYTHON, ids=named)
def test_no_pickle_is_read_or_written(module: Path) -> None:
    """A task of django-q2 is a signed pickle that it reads itself; results are never stored."""
    tree = ast.parse(module.read_text())

    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in names_of(node)
    }

    assert not imported & {"pickle", "shelve", "marshal", "django_q.models.Task"}


def names_of(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        yield node.module or ""
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", files(".py"), ids=named)
def test_a_module_is_named_by_what_it_holds(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "base", "services", "manager"}


@pytest.mark.parametrize("path", TEXT_FILES, ids=named)
def test_a_text_file_is_tidy_and_knows_no_machine(path: Path) -> None:
    text = path.read_bytes().decode()
    secrets = (
        r"-----BEGIN [A-Z ]*PRIVATE KEY",
        r"\bbach_[0-9a-zA-Z]+_[0-9a-zA-Z_-]{30,}",
        r"\b(?:AKIA|ghp_|xox[bp]-)[0-9A-Za-z]{10,}",
        r"SECRET_KEY = ['\"]",
    )
    homes = "|".join(f"/{place}/" for place in ("root", "work", "farm", "Users"))

    assert not text or text.endswith("\n")
    assert not text.endswith("\n\n")
    assert "\r" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    assert path.name == "Makefile" or "\t" not in text
    assert not re.findall("|".join(secrets), text)
    assert not re.findall(rf"(?<![\w.-])(?:{homes})[\w.-]+", text)


@pytest.mark.parametrize("lock", LOCKS, ids=named)
def test_a_lock_has_hashes_and_names_no_index(lock: Path) -> None:
    blocks = re.split(r"\n(?=[a-z])", re.sub(r"(?m)^\s*#.*\n", "", lock.read_text()).strip())

    assert len(blocks) > 30
    for block in blocks:
        first, *hashes = block.split("\\\n")
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)?", first.strip())
        assert hashes
        assert all(re.fullmatch(r"\s+--hash=sha256:[0-9a-f]{64}\s*", line) for line in hashes)


def locked(lock: Path) -> dict[str, set[Version]]:
    """Return the versions that `lock` holds; one package may have several, by marker."""
    found: dict[str, set[Version]] = {}
    for name, version in re.findall(r"(?m)^([a-z0-9-]+)==([\w.]+)", lock.read_text()):
        found.setdefault(name, set()).add(Version(version))
    return found


def test_both_locks_agree() -> None:
    run, dev = map(locked, LOCKS)

    assert run == {name: dev[name] for name in run}


def test_the_locks_are_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, dev = map(locked, LOCKS)
    wanted = [(Requirement(line), run) for line in project["dependencies"]]
    wanted += [(Requirement(line), dev) for line in project["optional-dependencies"]["dev"]]

    for requirement, lock in wanted:
        versions = lock[canonicalize_name(requirement.name)]
        assert all(version in requirement.specifier for version in versions), requirement


@pytest.mark.parametrize("document", files(".md"), ids=named)
def test_a_document_names_commands_and_files_that_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))

    # In a sentence or as a line of a code block, not the verb.
    named_targets = set(re.findall(r"(?m)(?:`|^ {0,4}\$? ?)make ([a-z]+)", text))
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text)

    assert named_targets <= targets
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()

    commands = re.findall(r"(?m)^make (\w+) +#", text)

    assert commands == ["run", "test"]
    assert {"run", "test"} <= set(re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text()))


@pytest.mark.parametrize("adr", files(".md", under="docs/adr"), ids=named)
def test_a_decision_is_told_in_four_parts_on_one_page(adr: Path) -> None:
    text = adr.read_text()
    parts = re.findall(r"(?m)^## (.+)$", text)

    if adr.name != "README.md":
        assert re.match(r"# \d+\. ", text)
        assert parts == ["Situation", "Decision", "What it costs", "What would change our mind"]
        assert len(text.splitlines()) <= 60
        assert f"({adr.name})" in (adr.parent / "README.md").read_text()


def test_every_target_of_make_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    for target in re.findall(r"(?m)^([a-z]+):", makefile):
        assert f"make {target} " in listed


def test_german_is_written_with_its_letters() -> None:
    catalogue = (ROOT / "locale/de/LC_MESSAGES/django.po").read_text()
    german = " ".join(re.findall(r'(?m)^(?:msgstr(?:\[\d\])? )?"(.*)"$', catalogue))
    words = r"\b\w*(?:fuer|ueber|koenn|moegl|muess|naechst|laeuf|loesch|pruef|aender|zurueck)\w*"

    assert re.findall(words, german) == []


def test_no_two_tests_in_the_browser_name_a_job_alike() -> None:
    """Most of them share one product, in any order; the second job of a name is refused."""
    given = re.compile(r'make_job\(\w+, "([^"]+)"|label\("Name"[^)]*\)\.fill\("([^"]+)"\)')
    texts = [path.read_text() for path in (ROOT / "tests/browser").glob("*.py")]
    names = ["".join(found) for text in texts for found in given.findall(text)]

    assert sorted(names) == sorted(set(names))
