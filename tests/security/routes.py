"""Every address there is, from the URL resolver, and who may do what there: the one table.

A route without an entry fails `test_roles.py`; so does an entry without a route.
"""

import re
from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

# Everybody, signed in or not; and nobody, not even administrators.
PUBLIC, NOBODY = "public", "nobody"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
READ, OPERATE, EDIT, MANAGE = "view", "operate", "edit", "manage"

PAGES = {
    # It leads to the overview, however it is asked.
    "": dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), READ),
    "daemon/": {"GET": READ},
    "daemon/jobs/": {"GET": READ},
    "daemon/jobs/new/": {"GET": EDIT, "POST": EDIT},
    "daemon/jobs/begin/": {"POST": EDIT},
    "daemon/jobs/check/": {"POST": EDIT},
    "daemon/jobs/preview/": {"GET": EDIT},
    "daemon/jobs/conditions/": {"GET": EDIT},
    "daemon/jobs/rules/": {"GET": EDIT},
    "daemon/jobs/<int:pk>/": {"GET": READ},
    "daemon/jobs/<int:pk>/edit/": {"GET": EDIT, "POST": EDIT},
    "daemon/jobs/<int:pk>/start/": {"POST": OPERATE},
    "daemon/jobs/<int:pk>/toggle/": {"POST": OPERATE},
    "daemon/jobs/changes/": {"GET": READ},
    "daemon/jobs/columns/": {"POST": READ},
    "daemon/jobs/<int:pk>/actions/": {"GET": READ},
    "daemon/jobs/<int:pk>/changes/": {"GET": READ},
    "daemon/jobs/<int:pk>/pause/": {"POST": OPERATE},
    "daemon/jobs/<int:pk>/mute/": {"POST": OPERATE},
    "daemon/jobs/<int:pk>/delete/": {"GET": EDIT, "POST": EDIT},
    "daemon/runs/": {"GET": READ},
    "daemon/runs/<int:pk>/": {"GET": READ},
    "daemon/runs/<int:pk>/output/": {"GET": READ},
    "daemon/runs/<int:pk>/cancel/": {"POST": OPERATE},
    "daemon/runs/<int:pk>/force/": {"POST": OPERATE},
    "daemon/runs/<int:pk>/again/": {"POST": OPERATE},
    "daemon/runs/<int:pk>/attempts/<int:number>/log/": {"GET": READ},
    "daemon/runs/<int:pk>/log/": {"GET": READ},
    "daemon/runs/<int:pk>/log/search/": {"GET": READ},
    "daemon/runs/<int:pk>/move/": {"POST": OPERATE},
    "daemon/queue/": {"GET": READ},
    "daemon/calendar/": {"GET": READ},
    "daemon/hold/": {"GET": OPERATE, "POST": OPERATE},
    "daemon/resume/": {"POST": OPERATE},
    "daemon/presence/": {"GET": OPERATE, "POST": OPERATE},
    "daemon/meanwhile/": {"GET": READ},
    "daemon/incidents/<int:pk>/seen/": {"POST": OPERATE},
    "daemon/system/": {"GET": READ},
    "daemon/settings/": {"GET": READ},
    "daemon/settings/rules/": {"POST": EDIT},
    "daemon/settings/watch/": {"POST": EDIT},
    "daemon/settings/pools/new/": {"GET": EDIT, "POST": EDIT},
    "daemon/settings/pools/<int:pk>/": {"GET": EDIT, "POST": EDIT},
    "daemon/settings/pools/<int:pk>/delete/": {"GET": EDIT, "POST": EDIT},
    "daemon/audit/": {"GET": MANAGE},
    "daemon/audit/export/": {"GET": MANAGE},
    "daemon/tokens/": {"GET": MANAGE, "POST": MANAGE},
    "daemon/tokens/<int:pk>/revoke/": {"POST": MANAGE},
    "daemon/api/": {"GET": READ},
    "daemon/find/": {"GET": READ},
    "daemon/icons.<slug:fingerprint>.svg": {"GET": PUBLIC},
    "daemon/login/": {"GET": PUBLIC, "POST": PUBLIC},
    "daemon/login/language/": {"POST": PUBLIC},
    "daemon/logout/": {"POST": READ},
    "daemon/password/": {"GET": READ, "POST": READ},
}
INTERFACE = {
    "api/daemon/jobs": {"GET": READ, "POST": EDIT},
    "api/daemon/jobs/<int:pk>": {"GET": READ, "PATCH": EDIT, "DELETE": EDIT},
    "api/daemon/jobs/<int:pk>/toggle": {"PUT": OPERATE},
    "api/daemon/jobs/<int:pk>/pause": {"POST": OPERATE},
    "api/daemon/jobs/<int:pk>/run": {"POST": OPERATE},
    "api/daemon/jobs/overview": {"GET": READ},
    "api/daemon/jobs/<int:pk>/figures": {"GET": READ},
    "api/daemon/jobs/check": {"POST": EDIT},
    "api/daemon/jobs/<int:pk>/copy": {"POST": EDIT},
    "api/daemon/jobs/<int:pk>/check": {"POST": EDIT},
    "api/daemon/jobs/<int:pk>/mute": {"GET": READ, "PUT": OPERATE, "DELETE": OPERATE},
    "api/daemon/jobs/<int:pk>/upcoming": {"GET": READ},
    "api/daemon/jobs/<int:pk>/changes": {"GET": READ},
    "api/daemon/changes": {"GET": READ},
    "api/daemon/schedules/preview": {"GET": READ},
    "api/daemon/calendar": {"GET": READ},
    "api/daemon/starters": {"GET": READ},
    "api/daemon/starters/begin": {"POST": EDIT},
    "api/daemon/export": {"GET": READ},
    "api/daemon/find": {"GET": READ},
    "api/daemon/audit": {"GET": MANAGE},
    "api/daemon/audit/export": {"GET": MANAGE},
    "api/daemon/audit/verify": {"GET": MANAGE},
    "api/daemon/tokens": {"GET": MANAGE, "POST": MANAGE},
    "api/daemon/tokens/<int:pk>": {"GET": MANAGE},
    "api/daemon/tokens/<int:pk>/revoke": {"POST": MANAGE},
    "api/daemon/jobs/<int:pk>/why": {"GET": READ},
    "api/daemon/runs": {"GET": READ},
    "api/daemon/runs/<int:pk>": {"GET": READ},
    "api/daemon/runs/<int:pk>/log": {"GET": READ},
    "api/daemon/runs/<int:pk>/cancel": {"POST": OPERATE},
    "api/daemon/runs/<int:pk>/log/search": {"GET": READ},
    "api/daemon/runs/<int:pk>/transcript": {"GET": READ},
    "api/daemon/runs/<int:pk>/again": {"POST": OPERATE},
    "api/daemon/runs/<int:pk>/force": {"POST": OPERATE},
    "api/daemon/runs/<int:pk>/move": {"POST": OPERATE},
    "api/daemon/runs/<int:pk>/why": {"GET": READ},
    "api/daemon/queue": {"GET": READ},
    "api/daemon/hold": {"POST": OPERATE},
    "api/daemon/resume": {"POST": OPERATE},
    "api/daemon/start": {"POST": OPERATE},
    "api/daemon/stop": {"POST": OPERATE},
    "api/daemon/activity": {"POST": OPERATE},
    "api/daemon/presence": {"GET": READ, "PUT": OPERATE},
    "api/daemon/policy": {"GET": READ, "PUT": EDIT, "PATCH": EDIT},
    "api/daemon/pools": {"GET": READ, "POST": EDIT},
    "api/daemon/pools/<slug:name>": {"GET": READ, "PUT": EDIT, "PATCH": EDIT, "DELETE": EDIT},
    "api/daemon/incidents": {"GET": READ},
    "api/daemon/incidents/<int:pk>/acknowledge": {"POST": OPERATE, "DELETE": OPERATE},
    "api/daemon/health": {"GET": READ},
    "api/daemon/health/history": {"GET": READ},
    "api/daemon/idle/history": {"GET": READ},
    "api/daemon/displacements": {"GET": READ},
    "api/daemon/skills": {"GET": READ},
    # Public on loopback alone, and then without data of jobs.
    "api/daemon/status": {"GET": PUBLIC},
    "api/daemon/openapi.json": {"GET": READ},
    # Any other address: 404 for whoever is signed in.
    "api/daemon/": dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), READ),
}
ANY = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), MANAGE)
ADMIN: dict[str, dict[str, str]] = {
    "admin/": ANY,
    "admin/login/": {"GET": PUBLIC},
    "admin/logout/": {"POST": MANAGE},
    "admin/password_change/": ANY,
    "admin/password_change/done/": {"GET": MANAGE},
    "admin/autocomplete/": {"GET": NOBODY},
    "admin/jsi18n/": {"GET": MANAGE},
    "admin/r/<path:content_type_id>/<path:object_id>/": ANY,
    "admin/^(?P<app_label>daemon_app)/$": ANY,
    "admin/(?P<url>.*)$": ANY,
}
# What may be done with each model: added, changed. Nothing is deleted in the admin.
MODELS = {
    "job": (True, True),
    "run": (False, False),
    "attempt": (False, False),
    "pool": (True, True),
    "policy": (False, False),
    "incident": (False, False),
    "account": (True, True),
    "token": (True, False),
}
for _model, (_added, _changed) in MODELS.items():
    _at = f"admin/daemon_app/{_model}/"
    ADMIN |= {
        _at: ANY,
        f"{_at}add/": dict.fromkeys(ANY, MANAGE if _added else NOBODY),
        f"{_at}<path:object_id>/history/": ANY,
        f"{_at}<path:object_id>/delete/": dict.fromkeys(ANY, NOBODY),
        f"{_at}<path:object_id>/change/": ANY | ({} if _changed else {"POST": NOBODY}),
        f"{_at}<path:object_id>/": ANY,
    }
TABLE: dict[str, dict[str, str]] = PAGES | INTERFACE | ADMIN


def all_routes() -> Iterator[tuple[str, Any]]:
    """Yield (route, view) for every address the server answers."""
    yield from _below(get_resolver().url_patterns, "")


def _below(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _below(pattern.url_patterns, route)
        else:
            yield route, pattern.callback


MISSING = 10**9
KINDS = ("run", "job", "account", "token", "attempt", "pool", "policy", "incident")
Samples = dict[str, Any]


def address(route: str, method: str, samples: Samples) -> str:
    """Return an address for a route: of something that is there, or not, for who would change it.

    `samples`: kind → number of one that is there; "icons": the sprite's fingerprint.
    """
    kinds = [kind for kind in KINDS if f"/{kind}/" in route or f"/{kind}s/" in route]
    kind = "run" if "/runs/" in route else (kinds or ["job"])[0]
    looks = method in {"GET", "HEAD", "OPTIONS"} or route in ADMIN
    number = samples[kind] if looks else MISSING
    return path_of(route, pk=number, fingerprint=samples["icons"], content_type_id=MISSING)


def path_of(route: str, **values: object) -> str:
    """Return an address for a route; `values` by parameter, `pk` for those without."""
    route = route.replace("admin/^(?P<app_label>daemon_app)/$", "admin/daemon_app/")
    route = route.replace("(?P<url>.*)$", "nowhere/")
    if route == "api/daemon/":
        route += "nowhere"
    return "/" + re.sub(
        r"<\w+:(\w+)>", lambda found: str(values.get(found[1], values.get("pk", 1))), route
    )
