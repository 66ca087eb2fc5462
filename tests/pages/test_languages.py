"""Every page in either language, and in no other: all words of all pages against the catalogue."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po
from django.conf import settings as configured
from django.test import Client
from django.utils import timezone

from daemon_app.models import Account, Pool, Run
from daemon_app.models.access import Role
from tests.jobs import job, run

PO = Path(__file__).resolve().parents[2] / "locale/de/LC_MESSAGES/django.po"
LETTERS = re.compile(r"[^\W\d_]{4,}")
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|<[^>]*>|\{\w*\}")
# What a person reads or hears; the rest of a page is for machines.
READ = {"title", "alt", "aria-label", "placeholder", "aria-description", "aria-roledescription"}
UNREAD = {"script", "style", "code", "pre", "kbd"}
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
# Names, and words that are the same in both languages or quoted in the other.
NEUTRAL = {"deutsch", "english"}
# Pages of a kind: of those with a number one for each state, of others some filters.
MOST, FEW = 9, 3
# Of schedules and times, which have no catalogue.
UNLISTED = {
    "de": "montag dienstag mittwoch donnerstag freitag samstag sonntag januar februar märz juni "
    "juli oktober dezember gestern heute morgen gerade täglich stündlich minuten stunden jeden "
    "jede jedes",
    "en": "monday tuesday wednesday thursday friday saturday sunday january february march june "
    "july october december yesterday today tomorrow almost daily hourly minutes hours every",
}
# Not linked from anywhere, or not for whoever is signed in.
MORE = [
    "/daemon/nowhere/",
    "/daemon/logout/",
    "/daemon/login/",
    "/daemon/hold/?mode=stop",
    "/admin/",
    "/admin/daemon_app/job/",
    "/admin/daemon_app/job/1/change/",
]


class Words(HTMLParser):
    """The words of a page that people read, those in attributes and templates included.

    What the page says to be in another language is quoted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words: set[str] = set()
        self.links: set[str] = set()
        self.open: list[tuple[str, str]] = []  # tag, language
        self.language = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.language = given.get("lang", "")
        language = given.get("lang") or (self.open[-1][1] if self.open else self.language)
        if tag not in VOID:
            self.open.append((tag, language))
        if tag == "a" and given.get("href", "").startswith(("/daemon/", "?")):
            self.links.add(given["href"].partition("#")[0])
        if language != self.language:
            return
        if "mono" in given.get("class", ""):
            given.pop("placeholder", "")  # a command
        for name, value in given.items():
            spoken = name.startswith("data-") and " " in value and name != "data-columns"
            if name in READ or spoken:
                self.take(value)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        is_read = not any(tag in UNREAD for tag, _ in self.open)
        if is_read and (not self.open or self.open[-1][1] == self.language):
            self.take(data)

    def take(self, text: str) -> None:
        plain = PLACEHOLDER.sub(" ", text)
        self.words.update(word.lower() for word in LETTERS.findall(plain))


def read(html: str) -> Words:
    """Return the words, links and language of a page."""
    found = Words()
    found.feed(html)
    return found


@pytest.fixture(scope="module")
def spoken() -> dict[str, set[str]]:
    """The words that only one of the languages has, by language."""
    with PO.open("rb") as file:
        catalogue = read_po(file)
    words: dict[str, set[str]] = {"en": set(), "de": set()}
    for message in catalogue:
        if not message.id:
            continue
        for language, texts in (("en", message.id), ("de", message.string)):
            for text in [texts] if isinstance(texts, str) else texts:
                plain = PLACEHOLDER.sub(" ", text)
                words[language].update(word.lower() for word in LETTERS.findall(plain))
    for language, more in UNLISTED.items():
        words[language].update(LETTERS.findall(more))
    both = words["en"] & words["de"]
    return {language: found - both - NEUTRAL for language, found in words.items()}


@pytest.fixture
def something(db: None) -> None:
    """Jobs and runs in every state, under names of no language."""
    now = timezone.now()
    Pool(name="gpu", size=1).store(now=now, by="anna")
    plain = job("qx-1", now=now)
    job("qx-2", now=now, job_type="cron", schedule="30 3 * * 1-5", description="qx")
    job("qx-3", now=now, job_type="interval", schedule="90m")
    job("qx-4", now=now, job_type="cron", schedule="0 8 * * MON", only_when_idle=True)
    paused = job("qx-5", now=now, job_type="interval", schedule="1h", pools={"gpu": 1})
    paused.set_active(active=False, now=now, by="anna")
    for state in Run.State.values:
        started = None if state in {"queued", "skipped", "missed"} else now
        ended = None if state in {"queued", "running"} else now
        run(plain, now=now, state=state, started_at=started, ended_at=ended, exit_code=None)


@pytest.fixture
def reader(client: Client, something: None) -> Client:
    client.force_login(Account.objects.create(username="qx", role=Role.ADMIN))
    return client


def pages(client: Client) -> Iterator[tuple[str, Words]]:
    """Yield (address, words) of each page that can be reached by links from the overview."""
    todo, seen = ["/daemon/", *MORE], set()
    kinds: dict[str, int] = {}
    while todo:
        address = todo.pop(0)
        kind = re.sub(r"\d+", "N", address.partition("?")[0])
        kinds[kind] = kinds.get(kind, 0) + 1
        if address in seen or kinds[kind] > (MOST if "N" in kind else FEW):
            continue
        seen.add(address)
        answer = client.get(address)
        if "html" not in answer.get("Content-Type", ""):
            continue
        page = read(answer.content.decode())
        yield address, page
        here = address.partition("?")[0]
        todo += sorted(here + link if link.startswith("?") else link for link in page.links)


@pytest.mark.parametrize(("language", "other"), [("en", "de"), ("de", "en")])
def test_every_page_speaks_one_language(
    reader: Client, spoken: dict[str, set[str]], language: str, other: str
) -> None:
    stranger = Client()
    for browser in (reader, stranger):
        browser.cookies[configured.LANGUAGE_COOKIE_NAME] = language

    found = dict(pages(reader)) | {
        "signed out": read(stranger.get("/daemon/login/").content.decode())
    }
    said: dict[str, Any] = {
        address: sorted(page.words & spoken[other])
        for address, page in found.items()
        # Django leaves a word or two of its admin in English.
        if page.words & spoken[other] and (language == "en" or "/admin/" not in address)
    }

    assert len(found) > 15
    assert {page.language for page in found.values()} - {""} == {language}  # "": parts of pages
    assert said == {}


def test_german_is_what_everybody_finds_whatever_the_browser_prefers(
    db: None, client: Client
) -> None:
    answer = client.get("/daemon/login/", headers={"Accept-Language": "en-GB,en;q=0.9"})

    assert read(answer.content.decode()).language == "de"
    assert answer["Content-Language"] == "de"


def test_a_browser_keeps_the_language_it_was_given(db: None, client: Client) -> None:
    answer = client.post(
        "/daemon/login/language/", {"language": "en", "next": "/daemon/login/?next=/daemon/jobs/"}
    )

    assert (answer.status_code, answer["Location"]) == (303, "/daemon/login/?next=/daemon/jobs/")
    kept = answer.cookies[configured.LANGUAGE_COOKIE_NAME]
    assert (kept["samesite"], kept["httponly"], kept["path"]) == ("Lax", True, "/")
    assert read(client.get("/daemon/login/").content.decode()).language == "en"


@pytest.mark.parametrize("nonsense", ["", "fr", "../en", "x" * 9000])
def test_a_language_we_do_not_speak_is_not_kept(db: None, client: Client, nonsense: str) -> None:
    answer = client.post("/daemon/login/language/", {"language": nonsense})

    assert not answer.cookies
    client.cookies[configured.LANGUAGE_COOKIE_NAME] = nonsense
    assert read(client.get("/daemon/nowhere/").content.decode()).language in {"", "de"}


def test_choosing_a_language_leads_to_no_other_site(client: Client) -> None:
    answer = client.post(
        "/daemon/login/language/", {"language": "en", "next": "https://elsewhere.example/"}
    )

    assert answer["Location"] == "/daemon/"
