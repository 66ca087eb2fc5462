"""What the settings need to know of this machine: private files, the time zone, its addresses."""

import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from django.core.exceptions import ImproperlyConfigured

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def private_directory(path: Path) -> Path:
    """Return `path`, made when missing, readable by this user alone.

    Raises ImproperlyConfigured when it belongs to somebody else: whoever may write there runs
    commands as us.
    """
    path = path.expanduser().absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.geteuid():
        msg = f"{path} belongs to another user; choose a folder of your own in BACH_DATA_DIR"
        raise ImproperlyConfigured(msg)
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def secret(path: Path) -> str:
    """Return the secret kept in `path`, made on first use: 512 bits, mode 0600.

    Raises ImproperlyConfigured when others may read the file.
    """
    # Written whole and then linked into place: two processes at first start agree on one key.
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(64))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    if path.stat().st_mode & 0o077:
        msg = f"others may read {path}; run: chmod 600 {path}"
        raise ImproperlyConfigured(msg)
    return path.read_text()


def old_secrets(path: Path) -> list[str]:
    """Return the secret that was put aside in `path` when a new one was wanted; else nothing.

    Raises ImproperlyConfigured when others may read the file.
    """
    return [secret(path)] if path.exists() else []


def time_zone() -> str:
    """Return the machine's IANA zone, "UTC" when it can't be told."""
    return _told_zone() or "UTC"


def knows_time_zone() -> bool:
    """Return whether a zone was chosen, here or for the machine."""
    return bool(os.environ.get("BACH_TIME_ZONE") or _told_zone())


def _told_zone() -> str:
    candidates = [os.environ.get("TZ", "").lstrip(":")]
    try:
        candidates.append(str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2])
        candidates.append(Path("/etc/timezone").read_text().strip())
    except OSError:
        pass
    return next((name for name in candidates if name and _is_zone(name)), "")


def _is_zone(name: str) -> bool:
    """Return whether a place's rules bear this name.

    The list of all names would open 600 files, at the start of every command.
    """
    if name.startswith(("posix/", "right/")) or name == "posixrules":
        return False
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def origins(scheme: str, host: str, port: int, extra: Iterable[str]) -> Iterable[str]:
    """Yield the exact origins under which this server, speaking `scheme`, may be addressed.

    Loopback names always; the bound address when it is a plain one; then `extra`, each checked.
    Raises ImproperlyConfigured for an origin with a path or without a scheme.
    """
    names = [*LOOPBACK]
    if host not in {"0.0.0.0", "::", "", *LOOPBACK, "::1"}:  # noqa: S104 - compared, not bound
        names.append(f"[{host}]" if ":" in host else host)
    for name in names:
        yield plain_origin(f"{scheme}://{name}:{port}")
    for origin in extra:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            msg = f"BACH_ORIGINS wants scheme://host[:port], not {origin!r}"
            raise ImproperlyConfigured(msg)
        yield plain_origin(f"{parts.scheme}://{parts.netloc}")


def plain_origin(origin: str) -> str:
    """Return an origin as browsers write it: in lower case, without its scheme's own port."""
    origin = origin.lower()
    default = {"http": ":80", "https": ":443"}.get(origin.partition(":")[0], "")
    return origin.removesuffix(default)


def service(name: str, given: str) -> str:
    """Return the address of a service that the variable `name` gives, without a slash at its end.

    Raises ImproperlyConfigured for what is no plain http address.
    """
    given = given.strip()
    try:
        parts = urlsplit(given)
        usable = (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and not re.search(r"[\x00-\x20\x7f]|[@?#\\]", given)
        )
    except ValueError as error:  # a port beyond 65535, half an IPv6 address
        msg = f"{name} wants http://host[:port], not {given!r}: {error}"
        raise ImproperlyConfigured(msg) from error
    if not usable:
        msg = f"{name} wants http://host[:port], not {given!r}"
        raise ImproperlyConfigured(msg)
    return given.rstrip("/")


def networks(entries: Iterable[str]) -> list[str]:
    """Return addresses or networks as given, without empty ones.

    Raises ImproperlyConfigured for what is neither.
    """
    named = [entry.strip() for entry in entries if entry.strip()]
    for entry in named:
        try:
            ip_network(entry)
        except ValueError as error:
            msg = f"BACH_TRUSTED_PROXIES wants addresses like 127.0.0.1 or 10.0.0.0/8: {error}"
            raise ImproperlyConfigured(msg) from error
    return named


def hostname(origin: str) -> str:
    """Return the host of an origin, with brackets around an IPv6 address."""
    name = urlsplit(origin).hostname or ""
    return f"[{name}]" if ":" in name else name


def program(base: Path) -> str:
    """Return how `bach` is called in the project's folder `base`.

    `make run` puts it where no shell looks for it.
    """
    return ".venv/bin/bach" if Path(sys.prefix) == base / ".venv" else "bach"
