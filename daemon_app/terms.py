"""What a job asks for before it starts, in a few words: forms, tables and pages say it alike."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _t

from daemon_app import formats, windows
from daemon_app.models import Job, reasons
from daemon_app.schedules import ScheduleError


def of(needs: Mapping[str, Any], on_presence: str, language: str) -> list[str]:
    """Return what `Job.needs` asks for, one short phrase each; [] when nothing is asked for."""
    told = [
        _t("only when idle") if needs.get("idle") else "",
        _presence(on_presence),
        _amount(_t("at least %(size)s of VRAM"), needs.get("vram_mb")),
        _services(needs.get("services") or []),
        _amount(_t("at least %(size)s of disk"), needs.get("disk_mb")),
    ]
    if percent := needs.get("load_percent"):
        told.append(_t("load at most %(percent)s %%") % {"percent": percent})
    if window := needs.get("window"):
        told.append(times(str(window), str(needs.get("zone") or ""), language))
    if needs.get("in_quiet_hours"):
        told.append(_t("in quiet hours too"))
    if at := needs.get("finish_by"):
        told.append(_finish(str(at), needs.get("action") == Job.GateAction.RUN))
    return list(filter(None, told))


def rules(job: Job, language: str) -> list[str]:
    """Return by which rules a job runs, one short phrase each; the usual ones are told too."""
    limit = formats.duration(job.timeout_seconds, language)
    overlap = {
        Job.Overlap.SKIP: _t("one run at a time, the next start is skipped"),
        Job.Overlap.QUEUE: _t("one run at a time, the next waits in line"),
        Job.Overlap.REPLACE: _t("a new start replaces what runs"),
        Job.Overlap.PARALLEL: _t("up to %(n)s at once") % {"n": job.max_instances},
    }
    misfire = {
        Job.Misfire.SKIP: _t("nothing is caught up"),
        Job.Misfire.ALL: _t("everything is caught up"),
    }
    told = [
        _t("at most %(span)s") % {"span": limit} if job.timeout_seconds else _t("no time limit"),
        str(overlap.get(Job.Overlap(job.overlap), "")),
        ngettext("%(n)s retry", "%(n)s retries", job.max_retries) % {"n": job.max_retries}
        if job.max_retries
        else "",
        str(misfire.get(Job.Misfire(job.misfire), "")),
        _amount(_t("memory up to %(size)s"), job.memory_limit_mb),
        _t("priority %(n)s") % {"n": job.priority} if job.priority else "",
        ", ".join(f"{name} {weight}" for name, weight in job.pools.items()),
    ]
    return list(filter(None, told))


def amount(mb: int) -> str:
    """Return megabytes as people write them: 8000 → "8 GB", 8500 → "8,5 GB", 300 → "300 MB"."""
    if mb < 1000 or mb % 10:
        return f"{mb} MB"
    whole, rest = divmod(mb, 1000)
    text = f"{whole}.{rest:03}".rstrip("0").rstrip(".")
    german = (get_language() or "de").startswith("de")
    return f"{text.replace('.', ',') if german else text} GB"


def _presence(how: str) -> str:
    if how == Job.Presence.DISPLACE:
        return _t("makes way")
    return _t("is ended when somebody comes") if how == Job.Presence.CANCEL else ""


def _amount(words: str, mb: int | None) -> str:
    return words % {"size": amount(mb).replace(" ", formats.NBSP)} if mb else ""


def _services(names: Sequence[str]) -> str:
    told = [str(reasons.NAMES.get(name, name)) for name in names]
    said = _t("%(services)s answers") if len(told) == 1 else _t("%(services)s answer")
    return said % {"services": _t(" and ").join(told)} if told else ""


def _finish(at: str, runs: bool) -> str:
    said = _t("done by %(at)s, or else all the same") if runs else _t("done by %(at)s")
    return said % {"at": at}


def times(text: str, tz: str, language: str) -> str:
    """Return times of the week in words, without state; the text itself when they are none."""
    try:
        return windows.parse(text, tz or settings.TIME_ZONE).describe(language)
    except (windows.WindowError, ScheduleError):
        return text


def opening(text: str, tz: str, now: datetime, language: str, *, quiet: bool = False) -> str:
    """Return times of the week with how they stand: "täglich 22:00–06:00 Uhr, jetzt offen …".

    `quiet` are times in which nothing opens. "" for a text or a zone that says none.
    """
    try:
        found = windows.parse(text, tz or settings.TIME_ZONE)
        here = ZoneInfo(found.tz)
    except (windows.WindowError, ScheduleError, ValueError):
        return ""
    facts = {"times": found.describe(language)}
    if not found.contains(now):
        facts["at"] = formats.moment(found.next_open(now), now, here, language)
        said = _t("%(times)s, begin %(at)s") if quiet else _t("%(times)s, opens %(at)s")
        return said % facts
    closes = found.next_close(now)
    if closes is None:
        return _t("%(times)s: always") % facts
    facts["at"] = formats.moment(closes, now, here, language)
    said = _t("%(times)s, now until %(at)s") if quiet else _t("%(times)s, open now until %(at)s")
    return said % facts
