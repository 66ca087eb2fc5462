"""What is read comes compressed to whoever takes it so; what was written by a run never."""

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from daemon_app.models import Account
from daemon_app.models.access import Role
from daemon_app.models.run import folder_of
from tests.jobs import run

STYLES = "/static/daemon/css/components.css"
TOKEN = re.compile(r'name="csrf-token" content="(\w+)"')


@pytest.fixture
def reader(db: None) -> Client:
    """An administrator's browser; like all of them it takes gzip."""
    client = Client(headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
    client.force_login(Account.objects.create(username="anna", role=Role.ADMIN))
    return client


def body(response: Any) -> bytes:
    found = b"".join(response)
    response.close()
    return found


@pytest.mark.parametrize(
    "address", ["/daemon/", "/daemon/jobs/", "/api/daemon/openapi.json", STYLES]
)
def test_what_is_large_comes_compressed_to_those_who_take_it(reader: Client, address: str) -> None:
    answer = reader.get(address)

    assert answer["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer["Vary"]
    small = body(answer)
    assert int(answer["Content-Length"]) == len(small) < len(gzip.decompress(small)) / 2


@pytest.mark.parametrize("address", ["/daemon/", STYLES])
def test_others_get_it_as_it_is(reader: Client, address: str) -> None:
    answer = reader.get(address, headers={"Accept-Encoding": "identity"})

    assert body(answer)[:1] in b"</"
    assert not answer.has_header("Content-Encoding")
    assert "Accept-Encoding" in answer["Vary"]


def test_a_static_file_is_the_same_after_its_way(reader: Client) -> None:
    found = finders.find("daemon/css/components.css")
    assert isinstance(found, str)

    for _ in range(2):
        assert gzip.decompress(body(reader.get(STYLES))) == Path(found).read_bytes()


def test_a_browser_that_has_a_static_file_is_not_sent_it_again(reader: Client) -> None:
    first = reader.get(STYLES)

    again = reader.get(STYLES, headers={"If-None-Match": first["ETag"]})

    assert again.status_code == 304
    assert not body(again)


def test_a_part_of_a_static_file_is_a_part_of_the_file_itself(reader: Client) -> None:
    answer = reader.get(STYLES, headers={"Range": "bytes=0-9"})

    assert answer.status_code == 206
    assert not answer.has_header("Content-Encoding")
    assert len(body(answer)) == 10


def test_what_a_run_has_written_is_sent_as_it_was_written(
    reader: Client, settings: Any, tmp_path: Path
) -> None:
    settings.RUNS_DIR = tmp_path
    of = run()
    folder_of(of.pk).mkdir(parents=True)
    (folder_of(of.pk) / "output.0").write_bytes(b"same " * 1000)

    answer = reader.get(f"/daemon/runs/{of.pk}/output/")

    assert answer.streaming
    answer.close()
    assert not answer.has_header("Content-Encoding")


def test_a_short_answer_is_not_worth_the_work(reader: Client) -> None:
    assert not reader.get("/api/daemon/presence").has_header("Content-Encoding")


def test_the_secret_of_a_page_looks_different_in_each_answer(reader: Client) -> None:
    pages = [gzip.decompress(reader.get("/daemon/").content).decode() for _ in range(2)]
    tokens = [found[1] for page in pages if (found := TOKEN.search(page))]

    assert len(tokens) == 2
    assert tokens[0] != tokens[1]
