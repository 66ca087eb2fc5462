"""`bach daemon health` and `skills`: how the machine is, and what the daemon does of itself."""

from datetime import datetime
from typing import Any

import click

from daemon_app.cli import language, project, terminal
from daemon_app.cli.clicks import Command
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import pgettext
from daemon_app.cli.outcome import Code
from daemon_app.cli.times import Clock

JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
RANGES = ("1h", "24h", "7d", "30d")  # daemon_app.api.machine.RANGES, without Django
BARS = "▁▂▃▄▅▆▇█"
BAR_COUNT = 30
TONES = {"ok": "is-ok", "warn": "is-warn", "bad": "is-fail", "unknown": ""}


@click.command(
    cls=Command,
    help=_(
        "Show what the checks have found: services, VRAM, disk, people, and whether the machine "
        "is idle.\n\nThe bars show the last hour unless --history says otherwise; a gap is a time "
        "in which nothing was measured."
    ),
    examples=(
        ("bach daemon health", ""),
        ("bach daemon health --history 24h", ""),
        ("bach daemon health --history 7d --json", ""),
    ),
    short_help=_("Show what the checks have found."),
)
@click.option(
    "--history",
    "length",
    type=click.Choice(RANGES),
    help=_("How far back the bars go; with --json all that was measured in that time."),
)
@JSON
def health(length: str | None, as_json: bool) -> int:
    """Show the newest readings, and the course of each."""
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app import gauges
        from daemon_app.api import glance, machine
        from daemon_app.models import Policy, Snapshot

        now = timezone.now()
        node = gauges.host(now)
        newest = Snapshot.objects.newest(now, node.host) if node else None
        found = glance.health_told(newest, now, known=True, admin=True)
        if as_json:
            told = {
                "host": node.host if node else None,
                "at": newest.at if newest else None,
                **glance.idle_told(node, now, known=True),
                "presence": glance.presence_told(Policy.current(), now, known=True),
                "health": found,
            }
            if length:
                told["history"] = machine.history_told({"range": length}, now)
            terminal.say_json(told)
            return Code.OK
        say_idle(glance.idle_told(node, now, known=True), now)
        terminal.say()
        wanted = {"range": length or "1h", "points": 4 * BAR_COUNT}
        course = machine.history_told(wanted, now)
        terminal.table(
            (
                pgettext("column", "Check"),
                pgettext("column", "State"),
                pgettext("column", "Value"),
                pgettext("column", "Age"),
                length or "1h",
                pgettext("column", "Reason"),
            ),
            [_row(name, reading, course) for name, reading in found.items()],
        )
    return Code.OK


def _row(name: str, reading: dict[str, Any], course: dict[str, Any]) -> list[Any]:
    from daemon_app import formats

    values = _slots(course["checks"].get(name), course["since"], course["until"])
    spoken, age = language.current(), reading["age_seconds"]
    state, tone = _word(reading), TONES[reading["level"]]
    return [
        _title(name),
        (terminal.marked(state, tone), tone),
        _value(reading),
        "–" if age is None else formats.duration(age, spoken),
        bars(values, most=100 if reading["unit"] == "%" else None),
        reading["sentence"],
    ]


def _slots(course: dict[str, Any] | None, since: str, until: str) -> list[float | None]:
    """Return the mean of each slot of a check's course; None where nothing was measured."""
    if course is None:
        return []
    begin, end = (datetime.fromisoformat(at).timestamp() for at in (since, until))
    width = (end - begin) / BAR_COUNT
    slots: list[list[float]] = [[] for _slot in range(BAR_COUNT)]
    for point in course["points"]:
        if point["value"] is None:
            continue
        # A point may stand for more than a slot, and begin a little before the first.
        at = datetime.fromisoformat(point["at"]).timestamp() - begin
        first, last = int(at // width), int((at + course["seconds"]) // width)
        for slot in range(max(first, 0), min(max(last, first + 1), BAR_COUNT)):
            slots[slot].append(point["value"])
    return [sum(values) / len(values) if values else None for values in slots]


def in_short(found: dict[str, dict[str, Any]]) -> str:
    """Return all readings in a line: "GPU service ✓ 12 ms, Ollama ✗ not reachable, …"."""
    told = []
    for name, reading in found.items():
        said = _value(reading) if reading["level"] == "ok" else _word(reading)
        told.append(f"{_title(name)} {terminal.marked(said, TONES[reading['level']])}")
    return ", ".join(told)


def _title(name: str) -> str:
    from daemon_app import gauges

    return str(gauges.CHECKS[name].title) if name in gauges.CHECKS else name


def _word(reading: dict[str, Any]) -> str:
    from daemon_app import gauges
    from daemon_app.readings import State

    words = gauges.WORDS["service" if reading["unit"] == "ms" else "room"]
    return str(words.get(State(reading["state"]), gauges.UNKNOWN))


def _value(reading: dict[str, Any]) -> str:
    from daemon_app import gauges

    if reading["value"] is None:
        return "–"
    return gauges.measured(reading["unit"], reading["value"], language.current())


def bars(values: list[float | None], most: float | None = None) -> str:
    """Return a row of bars as high as the values, from 0 to `most`; a gap for None.

    >>> bars([0, 50, None, 100], most=100)
    '▁▅ █'
    """
    top = most or max((each for each in values if each is not None), default=0) or 1
    return "".join(
        " " if each is None else BARS[round(min(each / top, 1) * (len(BARS) - 1))]
        for each in values
    )


def say_idle(told: dict[str, Any], now: datetime) -> None:
    """Say whether the machine is idle, since when, and why not."""
    clock = Clock.here(now)

    def moment(written: str | None) -> str:
        return clock.told(datetime.fromisoformat(written)) if written else ""

    if told["idle"]:
        since = moment(told["idle_since"])
        terminal.say(_("Idle since %(when)s.") % {"when": since}, tone="is-ok")
        return
    why = "; ".join(each["sentence"].rstrip(".") for each in told["idle_reasons"])
    said = (
        _("It is not known whether the machine is idle, which counts as busy")
        if told["idle"] is None
        else _("In use")
    )
    said = f"{said}: {terminal.shown(why)}." if why else f"{said}."
    if told["idle_from"]:
        said += " " + _("Idle from %(when)s if nothing happens.") % {
            "when": moment(told["idle_from"])
        }
    terminal.say(said)


# ── Skills ───────────────────────────────────────────────────────────────────────────────────────
@click.command(
    cls=Command,
    help=_(
        "List the skills: what the daemon does of itself, each with what became of it.\n\n"
        "A skill has a job like any other; start it by hand with “bach daemon run”."
    ),
    examples=(
        ("bach daemon skills", ""),
        ("bach daemon run validate_configs --follow", ""),
        ("bach daemon skills --json", ""),
    ),
    short_help=_("List what the daemon does of itself."),
)
@JSON
def skills(as_json: bool) -> int:
    """Show every skill."""
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app import formats
        from daemon_app.api import glance

        now, spoken = timezone.now(), language.current()
        found = glance.skills_told(glance.newest(now), known=True)
        if as_json:
            terminal.say_json(found)
            return Code.OK
        terminal.table(
            (
                pgettext("column", "Skill"),
                pgettext("column", "State"),
                pgettext("column", "Last run"),
                pgettext("column", "Result"),
            ),
            [
                (
                    skill["name"],
                    _skill_state(skill),
                    formats.relative(datetime.fromisoformat(last["at"]), now, spoken)
                    if (last := skill["last_run"])
                    else "–",
                    (last["summary"] if last else "") or skill["title"],
                )
                for skill in found
            ],
        )
    return Code.OK


def _skill_state(skill: dict[str, Any]) -> tuple[str, str]:
    from daemon_app import tiles
    from daemon_app.models import Run

    if not skill["enabled"]:
        return terminal.marked(_("switched off"), ""), ""
    if skill["last_run"] is None:
        return terminal.marked(_("never run"), ""), ""
    mark = tiles.run_mark(Run(state=skill["last_run"]["state"]))
    return terminal.marked(mark.word, mark.tone), mark.tone
