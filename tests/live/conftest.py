"""One web process for all tests of this folder, and somebody who is signed in."""

from collections.abc import Iterator

import pytest

from tests.live.web import Web


@pytest.fixture(scope="session")
def web() -> Iterator[Web]:
    web = Web()
    try:
        yield web
    finally:
        print(web.log_file.read_text())
        web.close()


@pytest.fixture
def session(web: Web, request: pytest.FixtureRequest) -> str:
    """The session of an administrator of this test's own."""
    key: str = web.tell(f"sign_in({request.node.name[:140]!r})")
    return key
