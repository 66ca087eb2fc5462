"""What templates say about times, states and icons. Pages and live regions give `now`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django import template
from django.conf import settings
from django.contrib.messages import constants as levels
from django.forms import BoundField, CheckboxInput
from django.template import Context
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from bachweb import machine
from daemon_app import formats, icons, terms, tiles
from daemon_app.models import Job, Run
from daemon_app.tiles.history import Column
from daemon_app.tiles.jobs import COLUMNS_COOKIE, columns_in
from daemon_app.tiles.rows import JobRow

register = template.Library()


# ── Icons ────────────────────────────────────────────────────────────────────────────────────────
@register.simple_tag
@cache
def icon(name: str, size: int = 16) -> SafeString:
    """Return one icon of the sprite, invisible to screen readers: words stand beside it."""
    if name not in icons.ICONS:
        raise template.TemplateSyntaxError(f"no icon {name!r}; add it to daemon_app.icons.ICONS")
    return format_html(
        '<svg width="{0}" height="{0}" aria-hidden="true"><use href="{1}#{2}"/></svg>',
        size,
        reverse("icons", args=[icons.fingerprint()]),
        name,
    )


@register.simple_tag
def theme_icons() -> SafeString:
    """Return the three signs of the theme switch, of which theme.js shows one."""
    signs = (("system", "contrast"), ("light", "sun"), ("dark", "moon"))
    return format_html_join(
        "",
        '<svg width="16" height="16" aria-hidden="true" data-for="{}"{}><use href="{}#{}"/></svg>',
        (
            (
                theme,
                "" if theme == "system" else mark_safe(" hidden"),
                reverse("icons", args=[icons.fingerprint()]),
                name,
            )
            for theme, name in signs
        ),
    )


# ── Times ────────────────────────────────────────────────────────────────────────────────────────
@register.simple_tag
def zone() -> str:
    """Return the zone in which this page shows its times."""
    return timezone.get_current_timezone_name()


@register.filter
@cache
def same_clock(name: str, other: str) -> bool:
    """Return whether clocks in two zones show the same, whatever the zones are called.

    Judged by their offsets on every third day of the past and the coming year.
    """
    if name == other:
        return True
    began = timezone.now() - timedelta(days=366)
    days = (began + timedelta(days=n) for n in range(0, 732, 3))
    try:
        one, two = ZoneInfo(name), ZoneInfo(other)
    except (KeyError, ValueError):
        return False
    return all(day.astimezone(one).utcoffset() == day.astimezone(two).utcoffset() for day in days)


@register.filter
def instant(at: datetime) -> str:
    """Return the machine's spelling of an instant."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@register.filter
def date_and_clock(at: datetime) -> str:
    """Return "Di., 24. Nov. · 14:32 Uhr"."""
    return formats.date_and_clock(at, timezone.get_current_timezone(), tiles.current_language())


@register.simple_tag(takes_context=True)
def moment(context: Context, at: datetime) -> SafeString:
    """Return when: "heute 14:32"."""
    here = timezone.get_current_timezone()
    return _time(at, "moment", formats.moment(at, context["now"], here, tiles.current_language()))


@register.simple_tag(takes_context=True)
def short_moment(context: Context, at: datetime) -> SafeString:
    """Return when, for a narrow column: "14:32", "Mi 03:00"."""
    here = timezone.get_current_timezone()
    return _time(
        at, "short", formats.short_moment(at, context["now"], here, tiles.current_language())
    )


@register.simple_tag
def clock(at: datetime) -> SafeString:
    """Return the time of day, where a heading says the day: "14:32"."""
    shown = f"{timezone.localtime(at):%H:%M}"
    return format_html('<time datetime="{}" title="{}">{}</time>', instant(at), stamp(at), shown)


@register.simple_tag(takes_context=True)
def relative(context: Context, at: datetime) -> SafeString:
    """Return the distance: "vor 2 Min.", "in 3 Std. 28 Min."."""
    return _time(at, "relative", formats.relative(at, context["now"], tiles.current_language()))


@register.simple_tag(takes_context=True)
def coarse(context: Context, at: datetime) -> SafeString:
    """Return the distance in one unit: "in 3 Std."."""
    return _time(
        at, "coarse", formats.relative(at, context["now"], tiles.current_language(), coarse=True)
    )


@register.simple_tag(takes_context=True)
def since(context: Context, at: datetime) -> SafeString:
    """Return how long something has been going on: "3 Min. 12 s", ticking."""
    elapsed = (context["now"] - at).total_seconds()
    return _time(at, "since", formats.duration(elapsed, tiles.current_language()))


@register.simple_tag(takes_context=True)
def ready(context: Context, at: datetime, *, guess: bool = False) -> SafeString:
    """Return how long until something is done: "noch etwa 41 Min."; `guess` is by its past."""
    said = formats.left(at, context["now"], tiles.current_language(), guess=guess)
    return _time(at, "estimate" if guess else "left", said)


@register.filter
def stamp(at: datetime) -> str:
    """Return the instant in full with its zone."""
    return formats.stamp(at, timezone.get_current_timezone(), tiles.current_language())


@register.simple_tag
def wall(at: datetime, name: str) -> dict[str, str]:
    """Return day and clock time of an instant in the zone called `name`."""
    there: tzinfo = ZoneInfo(name)
    return {
        "day": formats.day(at, there, tiles.current_language()),
        "clock": f"{at.astimezone(there):%H:%M:%S}".removesuffix(":00"),
        "stamp": formats.stamp(at, there, tiles.current_language()),
    }


@register.filter
def lasting(seconds: float) -> str:
    """Return a length of time that is over: "0,4 s", "25 Min."."""
    return formats.duration(seconds, tiles.current_language(), exact=True)


@register.filter
def running_for(began: datetime, now: datetime) -> str:
    """Return how long something has been running, in one unit: "12 Tagen"."""
    return formats.span((now - began).total_seconds(), tiles.current_language())


@register.filter
def as_span(seconds: float) -> str:
    """Return a length somebody chose: "5 Min."."""
    return formats.duration(seconds, tiles.current_language())


@register.filter
def plain_number(value: float) -> str:
    """Return a number for scripts, never with a comma."""
    return f"{value:.3f}"


@register.filter
def share(running: tiles.Now, now: datetime) -> str:
    """Return how much of the usual duration has passed, in percent: "64.2"."""
    assert running.usual is not None
    assert running.run.started_at is not None
    part = (now - running.run.started_at).total_seconds() / max(running.usual, 0.001)
    return f"{min(100.0, max(0.0, part * 100)):.1f}"


@register.filter
def grouped(value: int) -> str:
    """Return a whole number: "1.280"."""
    return formats.number(value, tiles.current_language())


@register.filter
def size(count: int) -> str:
    """Return a number of bytes: "17,8 GB"."""
    return formats.size(count, tiles.current_language())


def _time(at: datetime, show: str, text: str) -> SafeString:
    return format_html(
        '<time datetime="{}" title="{}" data-show="{}">{}</time>',
        instant(at),
        stamp(at),
        show,
        text,
    )


@register.filter
def conditions(job: Job) -> str:
    """Return what a job asks for before it starts, in one line; "" for nothing."""
    return " · ".join(terms.of(job.needs(), job.on_presence, tiles.current_language()))


@register.filter
def tries(run: Run) -> int:
    """Return which try of a run this is; going on after a pause for people is none of its own."""
    return max(run.attempt - run.displacements, 1)


# ── States ───────────────────────────────────────────────────────────────────────────────────────
@register.filter
def tone(level: int) -> str:
    """Return the class that colours a message of this level."""
    known = {levels.SUCCESS: "is-ok", levels.WARNING: "is-warn", levels.ERROR: "is-fail"}
    return known.get(level, "is-quiet")


@register.filter
def sign(level: int) -> str:
    """Return the icon of a message of this level."""
    known = {levels.SUCCESS: "check", levels.WARNING: "triangle-alert", levels.ERROR: "x"}
    return known.get(level, "info")


@register.filter
def signal_name(number: int) -> str:
    """Return "SIGTERM (15)"."""
    return tiles.signal_name(number)


@register.filter
def with_search(shown: tiles.Filter, words: str) -> str:
    """Return the query string of a filter with other words to search for."""
    return shown.query(q=words)


@register.filter
def job_columns(cookies: Mapping[str, str]) -> list[str]:
    """Return which columns this browser shows of the table of jobs."""
    return columns_in(cookies.get(COLUMNS_COOKIE, ""))


@register.inclusion_tag("daemon/chip.html")
def chip(mark: tiles.Mark, *, plain: bool = False) -> dict[str, object]:
    """Return a state as icon and word; the colour comes third. Calm states need no fill."""
    return {"mark": mark, "plain": plain or mark.calm}


@register.simple_tag(takes_context=True)
def job_line(context: Context, row: JobRow) -> SafeString:
    """Return a job's line of the table; one that would look the same is not made again.

    The table is drawn anew whenever any job runs. What a line says is all in `said`: its template
    uses nothing else.
    """
    job, active, held, now = row.job, row.active, context["held"], context["now"]
    here, language = timezone.get_current_timezone(), tiles.current_language()
    words = job.describe()
    last = row.last.started_at if row.last else None
    said = (
        *(job.pk, job.name, job.skill, job.job_type, job.timezone, job.is_active, words),
        *(row.mark, tuple(row.bars), row.success, held, str(here), language),
        *(active.pk if active else None, active.is_stopping if active else None),
        *(context["viewer"].may_operate, last, job.next_due_at, job.paused_until),
        formats.relative(last, now, language) if last else "",
        *(
            (formats.short_moment(at, now, here, language), formats.relative(at, now, language))
            for at in (job.next_due_at, job.paused_until)
            if at
        ),
    )
    line = _lines.get(said)
    if line is None:
        shown = {"row": row, "job": job, "words": words, "here": str(here), "held": held}
        shown |= {"now": now, "viewer": context["viewer"]}
        line = mark_safe(render_to_string("daemon/jobs_row.html", shown).strip())  # noqa: S308 - escaped by the template
        while len(_lines) >= MOST_LINES:
            _lines.pop(next(iter(_lines), said), None)
        _lines[said] = line
    return line


MOST_LINES = 1_000
_lines: dict[tuple[object, ...], SafeString] = {}


@register.simple_tag
def strip(bars: Sequence[tiles.Bar], *, large: bool = False) -> SafeString:
    """Return the last thirty runs as bars: height is duration, colour is outcome.

    All bars of one outcome are one path: a table of fifty jobs would else be 1,500 elements.
    """
    return _strip(tuple(bars), large=large, language=tiles.current_language())


# A page of jobs is drawn anew whenever one of them runs; the strips of the others stay.
@lru_cache(512)
def _strip(bars: tuple[tiles.Bar, ...], *, large: bool, language: str) -> SafeString:  # noqa: ARG001
    paths: dict[str, list[str]] = defaultdict(list)
    for place in range(tiles.STRIP - len(bars)):
        paths["none"].append(_bar(round(place * tiles.STEP, 2), 21, 3))
    for bar in bars:
        paths[bar.outcome].append(_bar(bar.x, bar.y, bar.height))
        if bar.outcome == "fail":  # a dot above: red alone would not do
            paths["fail"].append(_bar(bar.x, 0.6, 3.2))
    return format_html(
        '<svg class="strip{}" viewBox="0 0 152 24" preserveAspectRatio="none" role="img"'
        ' aria-label="{}">{}</svg>',
        " large" if large else "",
        tiles.strip_label(bars),
        format_html_join(
            "", '<path class="{}" d="{}"/>', ((k, "".join(d)) for k, d in paths.items())
        ),
    )


@register.simple_tag
def columns(drawn: Sequence[Column], name: str) -> SafeString:
    """Return the bars of a chart, each a link to its run; the last one is a stop of the tabulator.

    Put together here: a template would take several times as long for a hundred of them.
    """
    address = reverse("run", args=[0])
    return format_html_join(
        "",
        '<a id="{0}-{1}" href="{2}" aria-label="{3}"{4}><title>{3}</title>'
        '<rect class="hit" x="{5}" y="0" width="2%" height="100%"/>'
        '<rect class="bar {6}" x="{7}" y="{8}" width="1.44%" height="{9}"/>{10}</a>',
        (
            (
                *(name, each.pk, address.replace("/0/", f"/{each.pk}/"), each.words),
                "" if each is drawn[-1] else mark_safe(' tabindex="-1"'),
                *(each.hit, each.outcome, each.x, each.y, each.height),
                _above(each, name),
            )
            for each in drawn
        ),
    )


def _above(each: Column, name: str) -> SafeString:
    """Return what marks a bar beside its colour: that it is cut off, stands out, or failed."""
    cut = '<rect class="cut" x="{}" y="8%" width="2%" height="3"/>'
    marks = format_html(cut, each.hit) if each.is_cut else SafeString()
    if each.unusual and name == "lengths":
        return marks + format_html('<circle class="odd" cx="{}" cy="-7" r="3"/>', each.middle)
    if each.outcome == "fail":
        return marks + format_html('<circle class="fail" cx="{}" cy="-6" r="2"/>', each.middle)
    return marks


def _bar(x: float, y: float, height: float) -> str:
    return f"M{x:g} {y:g}h3.4v{height:g}h-3.4z"


# ── Words for a terminal ─────────────────────────────────────────────────────────────────────────
@register.simple_tag
@cache
def bach() -> str:
    """Return how the program is called."""
    return machine.program(Path(settings.BASE_DIR))


# ── Forms ────────────────────────────────────────────────────────────────────────────────────────
@register.simple_tag
def control(  # noqa: PLR0913 - how one field looks
    field: BoundField,
    *,
    mono: bool = False,
    short: bool = False,
    rows: int = 0,
    placeholder: str = "",
    list: str = "",  # noqa: A002 - the attribute's name
    describedby: str = "",
) -> SafeString:
    """Return the control of a field, tied to its hint and its errors."""
    said = [f"{field.auto_id}-error-{place}" for place in range(1, len(field.errors) + 1)]
    said += [describedby] if describedby else [f"{field.auto_id}-hint"] if field.help_text else []
    attributes: dict[str, str | bool] = {"aria-describedby": " ".join(said)} if said else {}
    if field.errors:
        attributes["aria-invalid"] = "true"
    if field.field.required:
        attributes["aria-required"] = "true"
    if not isinstance(field.field.widget, CheckboxInput):
        classes = ["input", "mono" if mono else "", "short" if short else ""]
        attributes["class"] = " ".join(filter(None, classes))
    if mono:
        attributes |= {"spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}
    if rows:
        attributes["rows"] = str(rows)
    attributes |= {"placeholder": placeholder} if placeholder else {}
    attributes |= {"list": list} if list else {}
    return field.as_widget(attrs=attributes)


@register.inclusion_tag("daemon/field.html")
def field(
    bound: BoundField, *, optional: bool = False, unit: str = "", **look: Any
) -> dict[str, object]:
    """Return a field with label, control, its unit, errors and hint."""
    shown = {"control": control(bound, **look), "help": bound.help_text, "optional": optional}
    return {"field": bound, "unit": unit, **shown}


@register.inclusion_tag("daemon/check.html")
def check(bound: BoundField) -> dict[str, object]:
    """Return a box to tick with its label."""
    return {"field": bound, "control": control(bound), "help": bound.help_text}


@register.inclusion_tag("daemon/choice.html")
def choice(bound: BoundField) -> dict[str, object]:
    """Return radio buttons that look like one switch."""
    return {"field": bound}


@register.inclusion_tag("daemon/checks.html")
def checks(bound: BoundField) -> dict[str, object]:
    """Return several boxes to tick under one label."""
    return {"field": bound}


# ── Live regions ─────────────────────────────────────────────────────────────────────────────────
@register.simple_tag(takes_context=True)
def region(context: Context, name: str, arg: object = None) -> SafeString:
    """Return a live region as the first page load shows it; later the hub renders the same."""
    html = tiles.render(name, None if arg is None else str(arg), context["viewer"], context["now"])
    return mark_safe(html or "")  # noqa: S308 - rendered by an escaping template
