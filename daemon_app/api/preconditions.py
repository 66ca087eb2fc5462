"""Conditional requests (RFC 9110, 13): not sent again unless changed, not changed unless as seen.

An ETag reads `"<version>-<digest>"`. The digest is of the whole answer, and what If-None-Match asks
for. The version counts what people and programs have changed, and is what If-Match asks for: that a
job's next start has moved on meanwhile is no lost update. What has no version has a digest alone.
"""

import hashlib
import re
from collections.abc import Iterable

from django.http import HttpResponse
from django.utils.translation import gettext as _t
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app.api.errors import Problem, refused
from daemon_app.compression import SUFFIX
from daemon_app.models import Policy, Pool
from daemon_app.models.policy import KEPT as KEPT_RULES
from daemon_app.models.policy import WATCHED

TAG = re.compile(r'\s*(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e\x80-\xff]*)"\s*')
# What an answer without its body still carries.
CARRIED = ("ETag", "Cache-Control", "Vary", "Content-Location", "Content-Language")
ANY = "*"
RULES = ("max_parallel", *KEPT_RULES, *WATCHED)


# ── Versions ─────────────────────────────────────────────────────────────────────────────────────
def version_of_pool(pool: Pool) -> str:
    """Return what changes with each change of a pool, and with one made anew under its name."""
    return digest(pool.pk, pool.name, pool.size, pool.description, pool.updated_at)


def version_of_rules(policy: Policy) -> str:
    """Return what changes with each change of the rules for all jobs."""
    return digest(policy.updated_at, *(getattr(policy, name) for name in RULES))


def digest(*facts: object) -> str:
    """Return a short text that is another one for other facts."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


# ── Changes ──────────────────────────────────────────────────────────────────────────────────────
def check(request: Request, *, heeds: bool) -> None:
    """Refuse conditions that are none, and those that a change does not heed.

    It must not act as if they were met. Raises Problem.
    """
    names = [name for name in ("If-Match", "If-None-Match") if name in request.headers]
    if request.method in SAFE_METHODS:
        names = [name for name in names if name != "If-Match"]  # it says nothing of a look
    elif not heeds and names:
        wrong = _t("This address does not heed such a condition. Send the request without it.")
        raise refused({name: [wrong] for name in names})
    for name in names:
        _tags(request, name)


def require(request: Request, present: int | str | None) -> None:
    """Go on only if what is there is what the request wants to change.

    `present` is its version, None when it does not exist. To be asked in the transaction of the
    change, with the row locked. Raises Problem (412) with the present version.
    """
    wanted = _tags(request, "If-Match")
    unwanted = _tags(request, "If-None-Match")
    version = None if present is None else str(present)
    if wanted is not None and not _names(wanted, version, weakly=False):
        raise changed(version)
    if unwanted is not None and _names(unwanted, version, weakly=True):
        raise _unmet(_t("This is there already."), version)


def changed(version: str | None) -> Problem:
    """Return what is answered when something else is there than was seen, or nothing."""
    if version is None:
        return _unmet(_t("There is nothing of this name any more."), version)
    message = _t("Somebody has changed this meanwhile. Read it anew, and change that.")
    return _unmet(message, version)


def _unmet(message: str, version: str | None) -> Problem:
    return Problem(412, "changed_meanwhile", message, version=version)


def _names(tags: list[tuple[bool, str]], version: str | None, *, weakly: bool) -> bool:
    if version is None:
        return False
    return any(
        tag == ANY or tag.partition("-")[0] == version for weak, tag in tags if weakly or not weak
    )


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────
def tagged(request: Request, response: Response, *, version: str | None) -> HttpResponse | None:
    """Give a rendered answer its ETag; return another one (304) for who has it already."""
    is_look = request.method in SAFE_METHODS
    if not 200 <= response.status_code < 300 or not response.content:
        return None
    if not is_look and version is None:
        return None
    whole = hashlib.blake2b(response.content, digest_size=12).hexdigest()
    tag = f"{version}-{whole}" if version is not None else whole
    response["ETag"] = f'"{tag}"'
    if not is_look:
        return None
    return unchanged(request, tag, response)


def unchanged(request: Request, tag: str, response: HttpResponse) -> HttpResponse | None:
    """Return the answer without a body (304) if whoever asks has what bears this tag."""
    known = _tags(request, "If-None-Match") or []
    for _weak, each in known:
        if each in {ANY, tag, tag + SUFFIX}:
            answer = HttpResponse(status=304)
            del answer["Content-Type"]
            for name in CARRIED:
                if name in response:
                    answer[name] = response[name]
            answer["ETag"] = f'"{tag if each == ANY else each}"'
            return answer
    return None


def is_still(request: Request, tag: str) -> bool:
    """Return whether If-Range, where it is given, means what bears this tag (never a date)."""
    return request.headers.get("If-Range", f'"{tag}"').strip() == f'"{tag}"'


def _tags(request: Request, name: str) -> list[tuple[bool, str]] | None:
    """Return the tags a header lists, each with whether it is weak; None without the header."""
    text = request.headers.get(name)
    if text is None:
        return None
    if text.strip() == ANY:
        return [(False, ANY)]
    found = list(_each(text))
    if not found or any(match is None for match in found):
        wrong = _t("Give one or more ETags in quotation marks, or * alone.")
        raise refused({name: [wrong]})
    return [(bool(match["weak"]), match["tag"]) for match in found if match]


def _each(text: str) -> Iterable[re.Match[str] | None]:
    at = 0
    while at <= len(text):
        match = TAG.match(text, at)
        yield match
        if match is None or match.end() == len(text):
            return
        if text[match.end()] != ",":
            yield None
            return
        at = match.end() + 1
