"""The web side: who is noted as a person, who is not, and what other programs tell."""

import json
import os
import re
import runpy
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon_app import doorbell
from tests.security.site import Person, Site, json_body
from tests.service import until

DOCS = Path(__file__).parents[2] / "docs" / "presence.md"
AS_BROWSER = ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document"), ("User-Agent", "Fox")


class Ear:
    """Hears what the web process rings, and reads its marks."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.bell = doorbell.Bell(site.web.runtime, "presence")
        self.folder = site.web.runtime / "here"
        self.begin()

    def begin(self) -> None:
        """Forget all marks and rings."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.bell.drain()

    def marks(self) -> list[tuple[str, str]]:
        files = self.folder.iterdir() if self.folder.exists() else ()
        told = [json.loads(file.read_text()) for file in files]
        return sorted((each["who"], each["signal"]) for each in told)

    def rung(self) -> dict[str, Any]:
        payload: bytes = until(lambda: self.bell.wait(1.0))[0]
        told: dict[str, Any] = json.loads(payload)
        return told


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="module")
def anna(site: Site) -> Person:
    return site.person("operator")


@pytest.fixture
def ear(site: Site) -> Iterator[Ear]:
    ear = Ear(site)
    yield ear
    ear.bell.close()


def test_a_request_with_a_sign_in_is_a_person(site: Site, anna: Person, ear: Ear) -> None:
    before = time.time()

    assert site.get("/daemon/", anna).status == 200
    assert site.get("/api/daemon/jobs", anna).status == 200

    assert ear.marks() == [(anna.name, "request")]
    (mark,) = ear.folder.iterdir()
    assert mark.stat().st_mode & 0o777 == 0o600
    assert anna.session not in mark.name + mark.read_text()
    assert before - 1 < mark.stat().st_mtime


def test_the_bell_tells_when_the_request_arrived() -> None:
    fresh = Site()
    try:
        ear = Ear(fresh)
        somebody = fresh.person("viewer")
        before = time.time()

        fresh.get("/daemon/", somebody)

        told = ear.rung()
        ear.bell.close()
    finally:
        fresh.close()
    assert (told["op"], told["who"], told["signal"]) == ("activity", somebody.name, "request")
    assert before <= told["at"] <= time.time()


def test_a_page_opened_by_hand_without_a_sign_in_is_somebody(site: Site, ear: Ear) -> None:
    site.get("/daemon/", None, *AS_BROWSER)

    assert ear.marks() == [("", "request")]


def test_who_signs_in_is_no_second_person(site: Site, anna: Person, ear: Ear) -> None:
    site.get("/daemon/", None, *AS_BROWSER)

    site.get("/daemon/", anna, *AS_BROWSER)

    assert ear.marks() == [(anna.name, "request")]


@pytest.mark.parametrize(
    ("method", "path", "signed_in", "headers"),
    [
        ("GET", "/static/daemon/css/base.css", True, AS_BROWSER),
        ("GET", "/daemon/icons.{icons}.svg", True, [("Sec-Fetch-Dest", "image")]),
        ("GET", "/daemon/", True, [("X-Unattended", "live")]),
        ("GET", "/api/daemon/jobs", True, [("X-Unattended", "live")]),
        ("HEAD", "/daemon/", True, AS_BROWSER),
        ("OPTIONS", "/api/daemon/jobs", True, []),
        ("GET", "/api/daemon/status", False, []),
        ("GET", "/daemon/login/", False, [("User-Agent", "probe")]),
        ("GET", "/api/daemon/jobs", False, [("Authorization", "Bearer {token}")]),
        ("GET", "/api/daemon/jobs", False, [("Authorization", "Bearer {token}"), *AS_BROWSER]),
    ],
)
def test_what_pages_and_programs_ask_by_themselves_is_nobody(
    site: Site,
    anna: Person,
    ear: Ear,
    method: str,
    path: str,
    signed_in: bool,
    headers: list[tuple[str, str]],
) -> None:
    icons = site.tell("__import__('daemon_app.icons').icons.fingerprint()")
    given = [(name, value.format(token=anna.token)) for name, value in headers]

    answer = site.ask(
        method, path.format(icons=icons), by=anna if signed_in else None, headers=given
    )

    assert answer.status < 405
    assert ear.marks() == []


def test_a_folder_that_can_not_be_written_costs_nobody_their_page(
    site: Site, anna: Person, ear: Ear
) -> None:
    ear.folder.write_text("in the way")

    try:
        assert site.get("/daemon/", anna).status == 200
    finally:
        ear.folder.unlink()


# ── Other programs ───────────────────────────────────────────────────────────────────────────────
def bearer(person: Person) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {person.token}")]


def tell(site: Site, person: Person, body: bytes | None = None) -> int:
    head = [("Content-Type", "application/json"), ("Content-Length", str(len(body or b"")))]
    lines = ["POST /api/daemon/activity HTTP/1.1", f"Host: {site.host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in bearer(person) + (head if body else [])]
    return site.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""), "POST").status


def test_a_program_tells_of_its_people(site: Site, anna: Person, ear: Ear) -> None:
    assert tell(site, anna) == 204, "without a body and its type"
    assert tell(site, anna, json_body(who="ben", program="flask-app")) == 204
    assert tell(site, anna, json_body(who="eve\n")) == 204

    assert ear.marks() == sorted(
        [(anna.name, "program"), ("ben (flask-app)", "program"), ("eve", "program")]
    )


def test_what_makes_no_sense_is_refused_and_marks_nothing(
    site: Site, anna: Person, ear: Ear
) -> None:
    viewer = site.person("viewer")

    assert tell(site, viewer) == 403
    for body in (b"[]", b'{"who": 5}', b'{"whom": "x"}', json_body(who="x" * 151), b"{"):
        assert tell(site, anna, body) == 400

    assert ear.marks() == []


def test_the_recipe_in_the_documentation_tells(
    site: Site, anna: Person, ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[0]
    (tmp_path / "bach_presence.py").write_text(recipe)
    monkeypatch.setenv("BACH_URL", site.origin)
    monkeypatch.setenv("BACH_TOKEN", anna.token)
    monkeypatch.setenv("no_proxy", "*")
    loaded = runpy.run_path(os.fspath(tmp_path / "bach_presence.py"))

    answered = loaded["middleware"](lambda request: f"page for {request}")("anna")

    assert answered == "page for anna"
    until(lambda: ear.marks() == [(anna.name, "program")])
    ear.begin()
    assert loaded["tell_bach"]() is None, "Flask takes anything else for the answer"


def test_who_asks_never_waits_for_a_bach_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[0]
    (tmp_path / "bach_presence.py").write_text(recipe)
    monkeypatch.setenv("BACH_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BACH_TOKEN", "bach_1_none")
    monkeypatch.setenv("no_proxy", "*")
    loaded = runpy.run_path(os.fspath(tmp_path / "bach_presence.py"))

    loaded["_post"]()


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────
def test_a_person_says_that_they_are_away_and_takes_it_back(
    site: Site, anna: Person, ear: Ear
) -> None:
    asked = site.get("/daemon/presence/", anna)
    said = site.post("/daemon/presence/", anna, presence="away", minutes="240")

    assert asked.status == 200
    assert said.status in {302, 303}
    assert site.tell("Policy.current().presence") == "away"
    assert {json.loads(each)["op"] for each in ear.bell.wait(5.0)} >= {"look"}
    site.post("/daemon/presence/", anna, presence="")
    assert site.tell("Policy.current().presence") == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"presence": "asleep"},
        {"presence": "here", "minutes": "10081"},
        {"presence": "here", "minutes": "x"},
        {"presence": "away", "minutes": "0"},
    ],
)
def test_a_form_that_can_not_be_is_shown_again(
    site: Site, anna: Person, fields: dict[str, str]
) -> None:
    assert site.post("/daemon/presence/", anna, **fields).status == 422
    assert site.tell("Policy.current().presence") == ""
