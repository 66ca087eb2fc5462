"""What the pages can do, programs can do: each page's address has its like here, or a reason."""

from tests.security.routes import INTERFACE, PAGES

# Page → where a program finds the same.
LIKE: dict[str, tuple[str, ...]] = {
    "": ("status",),
    "daemon/": ("status", "jobs/overview", "runs", "calendar"),
    "daemon/jobs/": ("jobs", "jobs/overview"),
    "daemon/jobs/new/": ("jobs", "starters", "jobs/<int:pk>/copy"),
    "daemon/jobs/begin/": ("starters/begin",),
    "daemon/jobs/check/": ("jobs/check", "jobs/<int:pk>/check"),
    "daemon/jobs/preview/": ("schedules/preview",),
    "daemon/jobs/conditions/": ("jobs/check",),
    "daemon/jobs/rules/": ("jobs/check",),
    "daemon/jobs/<int:pk>/": (
        *("jobs/<int:pk>", "jobs/<int:pk>/why", "jobs/<int:pk>/upcoming"),
        *("jobs/<int:pk>/figures", "runs", "displacements"),
    ),
    "daemon/jobs/<int:pk>/edit/": ("jobs/<int:pk>",),
    "daemon/jobs/<int:pk>/start/": ("jobs/<int:pk>/run",),
    "daemon/jobs/<int:pk>/toggle/": ("jobs/<int:pk>/toggle",),
    "daemon/jobs/changes/": ("changes",),
    "daemon/jobs/<int:pk>/actions/": ("jobs/<int:pk>",),
    "daemon/jobs/<int:pk>/changes/": ("jobs/<int:pk>/changes",),
    "daemon/jobs/<int:pk>/pause/": ("jobs/<int:pk>/pause",),
    "daemon/jobs/<int:pk>/mute/": ("jobs/<int:pk>/mute",),
    "daemon/jobs/<int:pk>/delete/": ("jobs/<int:pk>",),
    "daemon/runs/": ("runs",),
    "daemon/runs/<int:pk>/": ("runs/<int:pk>", "runs/<int:pk>/why"),
    "daemon/runs/<int:pk>/output/": ("runs/<int:pk>/log",),
    "daemon/runs/<int:pk>/cancel/": ("runs/<int:pk>/cancel",),
    "daemon/runs/<int:pk>/force/": ("runs/<int:pk>/force",),
    "daemon/runs/<int:pk>/again/": ("runs/<int:pk>/again",),
    "daemon/runs/<int:pk>/attempts/<int:number>/log/": ("runs/<int:pk>/transcript",),
    "daemon/runs/<int:pk>/log/": ("runs/<int:pk>/transcript",),
    "daemon/runs/<int:pk>/log/search/": ("runs/<int:pk>/log/search",),
    "daemon/runs/<int:pk>/move/": ("runs/<int:pk>/move",),
    "daemon/queue/": ("queue",),
    "daemon/calendar/": ("calendar",),
    "daemon/hold/": ("hold",),
    "daemon/resume/": ("resume",),
    "daemon/presence/": ("presence",),
    "daemon/meanwhile/": ("runs",),
    "daemon/incidents/<int:pk>/seen/": ("incidents/<int:pk>/acknowledge",),
    "daemon/system/": ("health", "health/history", "idle/history", "displacements", "skills"),
    "daemon/settings/": ("policy", "pools"),
    "daemon/settings/rules/": ("policy",),
    "daemon/settings/watch/": ("policy",),
    "daemon/settings/pools/new/": ("pools",),
    "daemon/settings/pools/<int:pk>/": ("pools/<slug:name>",),
    "daemon/settings/pools/<int:pk>/delete/": ("pools/<slug:name>",),
    "daemon/audit/": ("audit", "audit/verify"),
    "daemon/audit/export/": ("audit/export",),
    "daemon/tokens/": ("tokens",),
    "daemon/tokens/<int:pk>/revoke/": ("tokens/<int:pk>/revoke",),
    "daemon/find/": ("find",),
    "daemon/api/": ("openapi.json",),
}
# Page → why a program has no use for it.
OF_A_BROWSER = {
    "daemon/jobs/columns/": "which columns a browser shows",
    "daemon/icons.<slug:fingerprint>.svg": "a picture",
    "daemon/login/": "a program has a token",
    "daemon/login/language/": "which language a browser reads",
    "daemon/logout/": "a program has a token",
    "daemon/password/": "a person's own, told to no program",
}
CHANGES = {"POST", "PUT", "PATCH", "DELETE"}


def test_each_page_has_its_like_or_a_reason_why_not() -> None:
    assert {*PAGES} == {*LIKE} | {*OF_A_BROWSER}
    assert not {*LIKE} & {*OF_A_BROWSER}


def test_what_a_page_needs_a_right_for_needs_no_other_here() -> None:
    for page, places in LIKE.items():
        for place in places:
            rights = INTERFACE[f"api/daemon/{place}"]
            if "POST" in PAGES[page] and page != "" and len(places) == 1:
                changing = {right for method, right in rights.items() if method in CHANGES}
                assert PAGES[page]["POST"] in changing, page
