"""Row 11: each role at each route by each method, and no way around by spelling."""

import pytest

from daemon_app.models.access import RIGHTS, Role
from tests.security.routes import (
    ADMIN,
    INTERFACE,
    METHODS,
    NOBODY,
    PUBLIC,
    TABLE,
    Samples,
    address,
    all_routes,
)
from tests.security.site import Answer, Person, Site


def test_every_route_stands_in_the_table_and_nothing_else_does() -> None:
    assert sorted(TABLE) == sorted({route for route, _view in all_routes()})


def test_views_claim_the_rights_the_table_gives() -> None:
    for route, view in all_routes():
        entry = TABLE[route]
        if route in INTERFACE:
            claimed = dict(getattr(view, "view_class", None).rights)
            assert {m: r for m, r in entry.items() if r != PUBLIC} == {
                m: r for m, r in claimed.items() if entry.get(m) != PUBLIC
            }, route
        elif route not in ADMIN and route != "":
            rights = set(entry.values())
            assert rights == {getattr(view, "right", PUBLIC)}, route
            assert (rights == {PUBLIC}) == (not getattr(view, "login_required", True)), route


def ask(site: Site, method: str, path: str, by: Person | None) -> Answer:
    body, kind = b"", "application/x-www-form-urlencoded"
    if path.startswith("/api/"):
        body, kind = b"{}", "application/json"
    return site.ask(method, path, by=by, body=body, kind=kind)


@pytest.mark.parametrize(
    ("method", "role"),
    [
        (method, role)
        for method in METHODS
        for role in (None, *Role.values)
        # These two are answered as GET is.
        if method not in {"HEAD", "OPTIONS"} or role in {None, Role.OPERATOR}
    ],
)
def test_each_role_may_do_what_the_table_says_and_nothing_else(
    site: Site, samples: Samples, role: str | None, method: str
) -> None:
    person = site.person(role) if role else None

    for route, entry in TABLE.items():
        by = site.again(person) if person and "logout" in route else person
        answer = ask(site, method, address(route, method, samples), by)
        right = entry.get("GET" if method == "HEAD" else method)
        why = (route, method, role, answer, answer.body[:300])

        if right == PUBLIC:
            assert answer.status not in {401, 403}, why
            assert not answer.leads_to_sign_in or route == "admin/login/", why
        elif role is None and method != "OPTIONS":
            if route in INTERFACE:
                assert answer.status == 401, why
            elif "login" in route or "icons" in route:
                assert answer.status in {403, 405}, why
            else:
                assert answer.leads_to_sign_in, why
        elif method == "OPTIONS":
            assert answer.status in {200, 204, 302, 401, 403, 404, 405}, why
        elif right is None:
            assert answer.status in {403, 405}, why
        elif right == NOBODY:
            assert answer.status == 403, why
        elif role in RIGHTS[right]:
            assert answer.status not in {401, 403, 405}, why
            assert not answer.leads_to_sign_in, why
        else:
            assert answer.status == 403, why


SPELLINGS = [
    "/daemon/Jobs/new/",
    "/DAEMON/jobs/new/",
    "//daemon/jobs/new/",
    "/daemon//jobs/new/",
    "/daemon/jobs/new//",
    "/daemon%2fjobs%2fnew/",
    "/daemon/jobs%2Fnew/",
    "/daemon/jobs/new%2f",
    "/%64aemon/jobs/new/",
    "/daemon/jobs/n%65w/",
    "/daemon/jobs/new/.",
    "/daemon/jobs/new./",
    "/daemon/jobs/new.",
    "/daemon/jobs/new;/",
    "/daemon/jobs/new/;x=1",
    "/./daemon/jobs/new/",
    "/daemon/x/../jobs/new/",
    "/daemon/login/../jobs/new/",
    "/daemon/login/%2e%2e/jobs/new/",
    "/static/../daemon/jobs/new/",
    "/static/%2e%2e/daemon/jobs/new/",
    "/daemon/jobs/new/%20",
    "/daemon/jobs/new/%00",
    "/daemon/jobs/new/?format=json",
    "/daemon/jobs/new/#x",
    "/Admin/",
    "//admin/",
    "/admin//",
    "/admin/daemon_app/job/../job/",
    "/%61dmin/daemon_app/job/",
    "/daemon/login/../../admin/",
    "/api/daemon/Jobs",
    "/api/daemon//jobs",
    "/api//daemon/jobs",
    "/API/daemon/jobs",
    "/api/daemon/jobs/",
    "/api/daemon/jobs.json",
    "/api/daemon/jobs%2f1",
    "/api/daemon/status/../jobs",
    "/api/daemon/status/..%2fjobs",
    "/api/daemon/status;/jobs",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_an_address_leads_around_a_right(
    site: Site, viewer: Person, spelling: str
) -> None:
    nobody = site.get(spelling)
    somebody = site.get(spelling, viewer)

    assert nobody.status in {301, 302, 400, 401, 403, 404}, nobody
    assert nobody.status < 300 or nobody.status >= 400 or ours(nobody.location), nobody
    if "jobs" not in spelling or "new" in spelling:
        assert somebody.status in {301, 302, 400, 403, 404}, somebody
    assert somebody.status < 300 or somebody.status >= 400 or ours(somebody.location), somebody


def ours(location: str) -> bool:
    return location.startswith("/") and not location.startswith(("//", "/\\"))


@pytest.fixture(scope="module")
def viewer(site: Site) -> Person:
    return site.person("viewer")


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_no_header_or_field_turns_one_method_into_another(
    site: Site, viewer: Person, name: str
) -> None:
    job = site.tell(f"job('overridden {name}').pk")
    before = site.dump()

    looked = site.ask("GET", f"/api/daemon/jobs/{job}", by=viewer, headers=[(name, "DELETE")])
    paged = site.ask(
        "GET", f"/daemon/jobs/{job}/?_method=DELETE", by=viewer, headers=[(name, "POST")]
    )
    sent = site.ask(
        "POST",
        f"/api/daemon/jobs/{job}",
        by=viewer,
        headers=[(name, "DELETE")],
        body=b"_method=DELETE",
    )

    assert looked.status == 200
    assert paged.status == 200
    assert sent.status == 405
    assert site.dump() == before


def test_the_admin_knows_our_models_and_no_others() -> None:
    from django.contrib import admin

    assert {model.__name__ for model in admin.site._registry} == {
        "Account",
        "Attempt",
        "Incident",
        "Job",
        "Policy",
        "Pool",
        "Run",
        "Token",
    }
