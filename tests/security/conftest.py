"""One web server for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.security.site import Site


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    site = Site()
    try:
        yield site
        failures = [
            line for line in site.web.log_file.read_text().splitlines() if " ERROR " in line
        ]
        assert not failures
    finally:
        site.close()
