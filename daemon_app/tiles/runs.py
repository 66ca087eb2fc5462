"""The table of runs."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

from django.db.models import Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _t

from daemon_app import formats
from daemon_app.models import (
    Run,
)
from daemon_app.tiles.regions import Context, Viewer, current_language, number_in, region
from daemon_app.tiles.rows import Filter, pager, run_rows, upcoming_jobs

RUNS_PER_PAGE = 50
# States that are asked for together.
GROUPS = {"unhappy": Run.UNHAPPY, "active": Run.ACTIVE}

# What no index answers is looked for among so many of the newest, and further on request.
LOOKED_AT = 20_000
DAYS_OFFERED = 7
TIMES = {"today": (0, 1), "yesterday": (-1, 0), "7d": (-6, 1), "30d": (-29, 1)}  # days from today


Span = tuple[datetime | None, datetime | None]  # from when up to when; None: without a bound


def filtered_runs(
    wanted: Filter, now: datetime, lowest: int = 0, span: Span | None = None
) -> QuerySet[Run]:
    """Return the runs a filter shows, newest first; none with a number below `lowest`.

    `span` takes the place of the filter's time.
    """
    runs: QuerySet[Run] = Run.objects.all()
    if wanted.state in GROUPS:
        runs = runs.filter(state__in=GROUPS[wanted.state])
    elif wanted.state == "unusual":
        runs = runs.filter(unusual__in=Run.Unusual.values)
    elif wanted.state in Run.State.values:
        runs = runs.filter(state=wanted.state)
    if wanted.job:
        runs = runs.filter(job_id=wanted.job)
    if wanted.trigger in Run.Trigger.values:
        runs = runs.filter(trigger=wanted.trigger)
    if span := span or span_of(wanted.time, now):
        runs = _queued_in(runs, *span, lowest)
    elif lowest:
        runs = runs.filter(pk__gte=lowest)
    if wanted.q:
        said = Q(job_name__icontains=wanted.q) | Q(last_line__icontains=wanted.q)
        said |= Q(started_by__icontains=wanted.q)
        if number := number_in(wanted.q.lstrip("#")):
            said |= Q(pk=number)
        runs = runs.filter(said)
    return runs.order_by("-id")


def span_of(text: str, now: datetime) -> tuple[datetime, datetime] | None:
    """Return from when to when a time in an address is: "today", "7d", a date; None for any."""
    here = timezone.get_current_timezone()
    today = now.astimezone(here).date()
    try:
        if text in TIMES:
            first, last = (today + timedelta(days=days) for days in TIMES[text])
        else:
            first = date.fromisoformat(text)
            last = first + timedelta(days=1)
        begin, end = (datetime.combine(day, time(), here) for day in (first, last))
        return begin.astimezone(UTC), end.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _queued_in(
    runs: QuerySet[Run], begin: datetime | None, end: datetime | None, lowest: int
) -> QuerySet[Run]:
    """Return those of these runs that were put in line from `begin` up to `end`.

    Numbers ascend with that time, so that two looks into an index find the first and the last. One
    lower bound is given in all: of two, a database may take the one that bounds less.
    """
    first = first_since(begin) if begin else 0
    after = first_since(end) if end else None
    if first is None:
        return runs.none()
    return runs.filter(pk__gte=max(first, lowest), **({"pk__lt": after} if after else {}))


def first_since(at: datetime) -> int | None:
    """Return the first run that was put in line at `at` or later; None for none."""
    since = Run.objects.filter(queued_at__gte=at).order_by("queued_at")
    return since.values_list("pk", flat=True).first()


def is_searched(wanted: Filter) -> bool:
    """Return whether runs are chosen by what no index answers."""
    return bool(wanted.q or wanted.trigger or wanted.state == "unusual")


def times(wanted: Filter, now: datetime) -> list[tuple[str, str]]:
    """Return the spans a list of runs offers, as they stand in the address and in words."""
    here, language = timezone.get_current_timezone(), current_language()
    today = now.astimezone(here).date()
    days = [today - timedelta(days=n) for n in range(2, DAYS_OFFERED)]
    offered = [
        ("today", _t("Today")),
        ("yesterday", _t("Yesterday")),
        *((day.isoformat(), formats.day_long(day, language)) for day in days),
        ("7d", _t("Last 7 days")),
        ("30d", _t("Last 30 days")),
    ]
    if wanted.time not in dict(offered) and span_of(wanted.time, now):
        named = formats.day_long(date.fromisoformat(wanted.time), language)
        offered.insert(-2, (wanted.time, named))
    return offered


@region("runs-table", topics=("runs",))
def runs_table(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return one page of runs up to the newest one the page knew; later ones announce themselves.

    `arg` is the query string of the filter.
    """
    wanted = Filter.read(arg)
    newest, lowest = wanted.until, 0
    span = span_of(wanted.time, now)
    if is_searched(wanted):
        newest = wanted.below or newest or Run.objects.aggregate(last=Max("pk"))["last"] or 0
        if span and (after := first_since(span[1])):
            newest = min(newest, after - 1)
        lowest = max(0, newest - LOOKED_AT + 1)
    runs = filtered_runs(wanted, now, lowest)
    if newest:
        runs = runs.filter(pk__lte=newest)
    # Counting a long history costs more than showing it: one more row tells if there is a page.
    start = (wanted.page - 1) * RUNS_PER_PAGE
    found = list(runs[start : start + RUNS_PER_PAGE + 1])
    pages = wanted.page + (len(found) > RUNS_PER_PAGE)
    older = None
    if lowest > 1 and pages == wanted.page:
        before = Run.objects.filter(pk__lt=lowest).order_by("-id")
        older = before.values_list("queued_at", flat=True).first()
    is_cut = older is not None and (span is None or older >= span[0])
    return {
        "filter": wanted,
        "rows": run_rows(found[:RUNS_PER_PAGE], now, headings=True),
        "any": bool(found) or Run.objects.exists(),
        "next": upcoming_jobs().first() if not found and not wanted.is_narrow else None,
        "older": wanted.query(page=1, below=lowest - 1) if is_cut else None,
        "looked_at": LOOKED_AT,
        **pager(wanted, wanted.page, pages),
    }


@region("runs-news", topics=("runs",))
def runs_news(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return how many runs came since the page was opened: they announce themselves."""
    wanted = Filter.read(arg)
    span = span_of(wanted.time, now)
    count = 0
    if span is None or span[0] <= now < span[1]:
        lowest = (wanted.until or 0) + 1
        if is_searched(wanted):
            last = Run.objects.aggregate(last=Max("pk"))["last"] or 0
            lowest = max(lowest, last - LOOKED_AT + 1)
        new = filtered_runs(replace(wanted, time=""), now, lowest)
        count = new[:100].count()
    return {"count": count, "query": wanted.query(until=None)}
