"""Signing in as a person does: by link, by pasted code, by password; and out again."""

from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Complaints
from tests.stack import Stack

PASSWORD = "drei gelbe Boote"


def test_a_link_signs_in_and_its_ticket_is_nowhere_to_be_seen(page: Page, stack: Stack) -> None:
    link = stack.login_link()
    ticket = link.rpartition("=")[2]
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(link)
    page.wait_for_url("**/daemon/")

    assert not any(ticket in address for address in asked)
    assert ticket not in page.evaluate("JSON.stringify(history.state) + document.referrer")
    page.go_back()
    assert ticket not in page.url
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_the_file_that_the_command_line_opens_signs_in(
    page: Page, stack: Stack, tmp_path: Path, complaints: Complaints
) -> None:
    # What `bach daemon login` hands to the browser: its command line would be for all to read.
    complaints.tolerate("left the origin: file:")
    file = tmp_path / "login.html"
    file.write_text(
        f'<!doctype html><meta http-equiv="refresh" content="0; url={stack.login_link()}">'
    )

    page.goto(file.as_uri())

    page.wait_for_url("**/daemon/")


def test_a_link_opened_where_the_sign_in_page_stands_already_signs_in(
    page: Page, stack: Stack
) -> None:
    page.goto("/daemon/login/")

    page.evaluate("link => { location.href = link }", stack.login_link())

    page.wait_for_url("**/daemon/")


def test_a_used_link_says_so_and_what_to_do(
    page: Page, stack: Stack, complaints: Complaints
) -> None:
    complaints.tolerate("403")
    link = stack.login_link()
    page.goto(link)
    page.wait_for_url("**/daemon/")
    page.context.clear_cookies()

    page.goto("about:blank")
    page.goto(link)

    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Dieser Link gilt nicht mehr")
    expect(alert).to_contain_text("bach daemon login")


def test_it_works_without_script_by_pasting_the_link(
    new_context: Callable[..., BrowserContext], stack: Stack
) -> None:
    plain = new_context(base_url=stack.url, java_script_enabled=False).new_page()
    plain.goto("/daemon/runs/")

    plain.get_by_label("Link oder Code").fill(stack.login_link())
    plain.get_by_role("button", name="Mit dem Link anmelden").click()

    plain.wait_for_url("**/daemon/runs/")


def test_a_password_is_set_used_and_forgotten_again(
    page: Page, fresh_stack: Stack, complaints: Complaints
) -> None:
    complaints.tolerate("40[13]|422")
    page.goto(fresh_stack.login_link())
    page.wait_for_url("**/daemon/")
    page.goto("/daemon/password/")
    new, again = page.get_by_label("Neues Passwort", exact=True), page.locator("#id_new_password2")
    new.fill("kurz")
    again.fill("kurz")
    page.get_by_role("button", name="Passwort speichern").click()
    expect(page.locator(".error").first).to_be_visible()
    new.fill(PASSWORD)
    again.fill(PASSWORD)
    page.get_by_role("button", name="Passwort speichern").click()
    page.wait_for_url("**/daemon/")

    page.context.clear_cookies()
    page.goto("/daemon/jobs/")
    page.get_by_label("Name").fill("owner")
    page.get_by_label("Passwort").fill("falsch geraten")
    page.get_by_role("button", name="Anmelden", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Name oder Passwort")
    expect(page.get_by_label("Name")).to_have_value("owner")
    page.get_by_label("Passwort").fill(PASSWORD)
    page.get_by_role("button", name="Anmelden", exact=True).click()

    page.wait_for_url("**/daemon/jobs/")


ADMIN = {
    "admin": "/admin/",
    "admin-jobs": "/admin/daemon_app/job/",
    "admin-job": "/admin/daemon_app/job/add/",
    "admin-runs": "/admin/daemon_app/run/",
    "admin-accounts": "/admin/daemon_app/account/",
    "admin-account": "/admin/daemon_app/account/add/",
    "admin-token": "/admin/daemon_app/token/add/",
}


def test_the_pages_of_signing_in_are_sound_in_all_views(
    page: Page,
    signed_in: Callable[[Page], Page],
    axe: Callable[[Page], list[str]],
    in_all_views: Callable[[Page], Iterator[str]],
    overflow: Callable[[Page], int],
    screenshot: Callable[..., Path],
) -> None:
    page.goto("/daemon/login/")
    for view in in_all_views(page):
        assert axe(page) == [], view
        assert overflow(page) == 0, view
        screenshot(page, f"sign-in-{view}")
    signed_in(page)
    page.goto("/daemon/password/")
    for view in in_all_views(page):
        assert axe(page) == [], view
        assert overflow(page) == 0, view
        screenshot(page, f"password-{view}")


def test_the_admin_breaks_no_policy(
    page: Page,
    signed_in: Callable[[Page], Page],
    in_all_views: Callable[[Page], Iterator[str]],
    screenshot: Callable[..., Path],
) -> None:
    signed_in(page)
    for name, path in ADMIN.items():
        page.goto(path)
        for view in in_all_views(page):
            screenshot(page, f"{name}-{view}")
        expect(page.get_by_role("link", name="Zurück zur Übersicht")).to_be_visible()


def test_the_admin_can_be_read_by_everybody(
    page: Page,
    signed_in: Callable[[Page], Page],
    axe: Callable[[Page], list[str]],
    in_all_views: Callable[[Page], Iterator[str]],
    complaints: Complaints,
) -> None:
    # To read a style sheet that another one imports, axe puts it into the page, which our policy
    # forbids; that the admin itself breaks none is tested above.
    complaints.tolerate("Applying inline style|preload assets")
    signed_in(page)
    found = []
    for path in ADMIN.values():
        page.goto(path)
        for view in in_all_views(page):
            found += [f"{path} {view} {finding}" for finding in axe(page)]
    assert found == []
