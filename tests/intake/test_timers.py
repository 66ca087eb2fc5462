"""Timers of systemd: what a schedule can say comes, what it can't is never guessed."""

from pathlib import Path

import pytest

from daemon_app import timers
from daemon_app.intake import from_timers
from daemon_app.intake.drafts import Draft
from daemon_app.timers import UnreadableError, calendar, service, timer

SERVICE = "[Service]\nType=oneshot\nExecStart=/usr/bin/true\n"


@pytest.mark.parametrize(
    ("text", "cron", "zone"),
    [
        ("daily", "0 0 * * *", ""),
        ("weekly", "0 0 * * MON", ""),
        ("hourly UTC", "0 * * * *", "UTC"),
        ("*-*-* 6,18:00", "0 6,18 * * *", ""),
        ("Sun *-*-* 03:10:00", "10 3 * * SUN", ""),
        ("Mon..Fri 22:30", "30 22 * * MON-FRI", ""),
        ("Mon-Fri 22:30", "30 22 * * MON-FRI", ""),
        ("Monday,thursday 22:30", "30 22 * * MON,THU", ""),
        ("Sat..Sun 08:00", "0 8 * * SAT,SUN", ""),
        ("Fri..Mon 08:00 Europe/Berlin", "0 8 * * FRI,SAT,SUN,MON", "Europe/Berlin"),
        ("*:0/15", "*/15 * * * *", ""),
        ("*:5/20", "5/20 * * * *", ""),
        ("8..17/2:00", "0 8-17/2 * * *", ""),
        ("*-01,07-01", "0 0 1 1,7 *", ""),
    ],
)
def test_a_calendar_becomes_a_cron_expression(text: str, cron: str, zone: str) -> None:
    assert calendar(text) == (cron, zone)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("2026-12-24 18:00", "calendar_year"),
        ("Mon *-*-1..7 03:00", "calendar_both"),
        ("*:*:0/30", "calendar_seconds"),
        ("*-*~1", "calendar_odd"),
        ("*-*-0/5", "calendar_odd"),
        ("*-*-*/2", "calendar_odd"),
        ("noon", "calendar_odd"),
        ("Mon Tue", "calendar_odd"),
        ("Monkey 08:00", "calendar_odd"),
        ("Mon..Tue..Wed 08:00", "calendar_odd"),
    ],
)
def test_what_cron_can_not_say_is_refused(text: str, code: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        calendar(text)

    assert caught.value.code == code


def test_the_times_of_a_timer_are_read() -> None:
    every = timer("[Timer]\nOnBootSec=15min\nOnUnitActiveSec=1d\n")
    after = timer("[Timer]\nOnUnitInactiveSec=1h 30min\nRandomizedDelaySec=5m\nPersistent=yes\n")

    assert (every.kind, every.schedule, every.is_random) == ("interval", "24h", False)
    assert (after.schedule, after.is_after_end, after.is_random) == ("90m", True, True)
    assert after.is_persistent


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[Timer]\nOnCalendar=daily\nOnCalendar=weekly", "timer_several"),
        ("[Timer]\nOnBootSec=1min", "timer_boot"),
        ("[Unit]\nDescription=x", "timer_none"),
        ("[Timer]\nnonsense", "unit_odd"),
        ("[Timer]\nOnUnitActiveSec=soon", "span_odd"),
        ("[Timer]\nOnUnitActiveSec=1M", "span_odd"),  # a month, and no minute
        (f"[Timer]\nOnUnitActiveSec={'1' * 60}!", "span_odd"),
    ],
)
def test_a_timer_that_can_not_be_said_is_refused(text: str, code: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        timer(text)

    assert caught.value.code == code


def commands(line: str) -> tuple[str, ...]:
    known = {"h": "/home/anna"}
    return service(f"[Service]\nExecStart={line}\n", known).commands


def test_what_systemd_does_not_know_stays_letters_to_the_shell() -> None:
    assert commands("/bin/grep a|b *.txt") == ("/bin/grep 'a|b' '*.txt'",)
    assert commands("/bin/echo 'two words' $ARGS") == ("/bin/echo 'two words' $ARGS",)
    assert commands("/bin/echo x${HOME}`id`") == ('/bin/echo "x${HOME}\\`id\\`"',)
    assert commands("/bin/echo $$HOME 50%%") == ('/bin/echo "\\$HOME" 50%',)
    assert commands(":/bin/echo $HOME") == ("/bin/echo '$HOME'",)
    assert commands("/bin/a ; /bin/b") == ("/bin/a", "/bin/b")
    assert commands("-%h/bin/backup.sh") == ("/home/anna/bin/backup.sh || true",)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("ExecStart=+/bin/x", "service_privileged"),
        ("ExecStart=/bin/x %i", "service_specifier"),
        ("ExecStart=/bin/x\\x20y", "unit_odd"),
        ("ExecStart=/bin/x 'y", "unit_odd"),
        ("ExecStart=/bin/x\nEnvironmentFile=/etc/x", "service_environment_file"),
        ("ExecStart=/bin/x\nExecCondition=/bin/y", "service_condition"),
        ("ExecStart=/bin/x\nExecStart=", "service_empty"),
    ],
)
def test_a_service_that_can_not_be_said_is_refused(lines: str, code: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        service(f"[Service]\n{lines}\n", {})

    assert caught.value.code == code


def test_what_a_service_says_besides_is_read_or_named() -> None:
    found = service(
        "[Unit]\nDescription=Nightly\n[Service]\nType=oneshot\nExecStartPre=/bin/a\n"
        "ExecStart=/bin/b \\\n  --all\nEnvironment=A=1 'B=2 3'\nWorkingDirectory=-/srv\n"
        "TimeoutStartSec=2min\nNice=10\nPrivateNetwork=yes\n",
        {},
    )

    assert found.commands == ("/bin/a", "/bin/b --all")
    assert found.environment == {"A": "1", "B": "2 3"}
    assert (found.folder, found.timeout_seconds, found.nice) == ("/srv", 120, 10)
    assert found.left_out == ("PrivateNetwork",)


def drafts(folder: Path, me: str = "anna", manager: str = "anna") -> dict[str, Draft]:
    texts, enabled = from_timers.units_in([folder])
    units = from_timers.Units(texts, manager=manager, home="/home/anna", enabled=enabled)
    return {draft.name: draft for draft in from_timers.drafts(units, me=me, zone="Europe/Berlin")}


def test_a_folder_of_units_becomes_drafts(tmp_path: Path) -> None:
    (tmp_path / "backup.timer").write_text(
        "[Unit]\nDescription=Backup\n[Timer]\nOnCalendar=03:00\nPersistent=true\n"
    )
    (tmp_path / "backup.service").write_text(SERVICE)
    (tmp_path / "backup.timer.d").mkdir()
    (tmp_path / "backup.timer.d/later.conf").write_text("[Timer]\nOnCalendar=\nOnCalendar=04:00\n")
    (tmp_path / "timers.target.wants").mkdir()
    (tmp_path / "timers.target.wants/backup.timer").symlink_to("../backup.timer")
    (tmp_path / "alone.timer").write_text("[Timer]\nOnCalendar=daily\n")
    (tmp_path / "masked.timer").symlink_to("/dev/null")
    (tmp_path / "many@.timer").write_text("[Timer]\nOnCalendar=daily\n")
    (tmp_path / "root.timer").write_text("[Timer]\nOnCalendar=daily\n")
    (tmp_path / "root.service").write_text(f"{SERVICE}User=root\n")

    found = drafts(tmp_path)

    backup = found.pop("backup")
    assert backup.was_active
    assert not backup.refusal
    assert (backup.fields["schedule"], backup.fields["misfire"]) == ("0 4 * * *", "once")
    assert {name: draft.refusal.code for name, draft in found.items()} == {
        "alone": "service_missing",
        "many": "timer_template",
        "root": "other_user",
    }


def test_timers_of_the_machine_belong_to_root(tmp_path: Path) -> None:
    (tmp_path / "trim.timer").write_text("[Timer]\nOnCalendar=weekly\n")
    (tmp_path / "trim.service").write_text(SERVICE)

    assert drafts(tmp_path, manager="root")["trim"].refusal.code == "other_user"
    assert drafts(tmp_path, manager="root", me="root")["trim"].refusal is None


def test_a_unit_that_is_no_text_is_refused() -> None:
    for text in ("\0", "x" * (timers.LONGEST + 1)):
        with pytest.raises(UnreadableError):
            timers.unit(text)
