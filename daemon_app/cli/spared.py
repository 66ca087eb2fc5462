"""What libraries load although nothing of ours uses it, and how they are kept from it."""

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

# What Twisted, Autobahn and REST framework can do without: 18 MB and 0.4 s for the web
# server. None: as if not installed.
NOT_NEEDED: dict[str, Any] = {
    "OpenSSL": None,  # TLS ends at the proxy
    "_nvx_utf8validator": None,  # speeds up large frames, which browsers don't send us
    "autobahn.twisted.wamp": SimpleNamespace(ApplicationSession=None),  # with all of cryptography
    "cbor2": None,
    "pygments": None,  # colours source on pages that we don't have
    "yaml": None,
}


@contextlib.contextmanager
def spared() -> Iterator[None]:
    """Let what is imported meanwhile find these instead of modules that are not loaded yet."""
    instead = {name: module for name, module in NOT_NEEDED.items() if name not in sys.modules}
    sys.modules.update(instead)
    try:
        yield
    finally:
        for name in instead:
            del sys.modules[name]


def serializers() -> Any:
    """Return `daemon_app.api.serializers`, loaded with what it takes and little more."""
    # What is spared is REST framework's alone: modules of ours may well use some of it.
    with spared():
        import rest_framework.compat  # noqa: F401
    from daemon_app.api import serializers as found

    return found
