"""One web server for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.security.routes import Samples
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


@pytest.fixture(scope="session")
def samples(site: Site) -> Samples:
    """One of each kind, to look at."""
    run = site.tell("finished('looked at')")
    person = site.person("viewer")
    return {
        "run": run,
        "job": site.tell(f"Run.objects.get(pk={run}).job_id"),
        "account": person.pk,
        "token": site.tell(f"Token.objects.get(account_id={person.pk}).pk"),
        "attempt": site.tell(f"tried_before({run})"),
        "pool": site.tell("pool('samples')"),
        "policy": site.tell("Policy.current().store(now=timezone.now(), by='anna').pk"),
        "incident": site.tell("Incident.note('stalled', now=timezone.now(), seconds=40).pk"),
        "icons": site.tell("__import__('daemon_app.icons').icons.fingerprint()"),
    }
