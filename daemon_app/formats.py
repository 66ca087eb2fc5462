"""How times, durations and numbers are written. `static/daemon/js/time.js` writes the same.

`tests/pages/formats.json` holds the cases both must meet. Times are aware; `now` is an argument;
a `zone` is the zone in which days begin. Languages: "de", "en".
"""

from datetime import date, datetime, timedelta, tzinfo

NBSP = "\u00a0"

WEEKDAYS = {
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
SHORT_WEEKDAYS = {
    "de": ("Mo", "Di", "Mi", "Do", "Fr", "Sa", "So"),
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
}
# Months of up to four letters are written out in German.
MONTHS = {
    "de": [
        "Jan.",
        "Feb.",
        "März",
        "Apr.",
        "Mai",
        "Juni",
        "Juli",
        "Aug.",
        "Sept.",
        "Okt.",
        "Nov.",
        "Dez.",
    ],
    "en": ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
}
WORDS = {
    "de": {
        "just now": "gerade eben",
        "now": "jetzt",
        "ago": "vor {}",
        "in": "in {}",
        "left": "noch etwa {}",
        "estimate": "noch ≈ {}",
        "soon": "gleich fertig",
        "today": "heute",
        "yesterday": "gestern",
        "tomorrow": "morgen",
        "s": "s",
        "min": "Min.",
        "h": "Std.",
        "day": "Tag",
        "days": "Tage",
        "days (dative)": "Tagen",
        "clock": "{} Uhr",
    },
    "en": {
        "just now": "just now",
        "now": "now",
        "ago": "{} ago",
        "in": "in {}",
        "left": "about {} left",
        "estimate": "≈ {} left",
        "soon": "almost done",
        "today": "today",
        "yesterday": "yesterday",
        "tomorrow": "tomorrow",
        "s": "s",
        "min": "min",
        "h": "h",
        "day": "day",
        "days": "days",
        "days (dative)": "days",
        "clock": "{}",
    },
}


def moment(at: datetime, now: datetime, zone: tzinfo, language: str) -> str:
    """Return when: "heute 14:32", "gestern 18:00", "Mi 03:00", "3. Nov., 18:00"."""
    there, days = at.astimezone(zone), _days_between(at, now, zone)
    word = {-1: "yesterday", 0: "today", 1: "tomorrow"}.get(days)
    if word:
        return f"{WORDS[language][word]} {there:%H:%M}"
    if abs(days) < 7:
        return f"{SHORT_WEEKDAYS[language][there.weekday()]} {there:%H:%M}"
    year = "" if there.year == now.astimezone(zone).year else f" {there.year}"
    return f"{_day_and_month(there, language)}{year}, {there:%H:%M}"


def short_moment(at: datetime, now: datetime, zone: tzinfo, language: str) -> str:
    """Return the same for a narrow column: "14:32", "Mi 03:00", "3. Nov."."""
    there, days = at.astimezone(zone), _days_between(at, now, zone)
    if days == 0:
        return f"{there:%H:%M}"
    if abs(days) < 7:
        return f"{SHORT_WEEKDAYS[language][there.weekday()]} {there:%H:%M}"
    year = "" if there.year == now.astimezone(zone).year else f" {there.year}"
    return f"{_day_and_month(there, language)}{year}"


def day(at: datetime, zone: tzinfo, language: str) -> str:
    """Return "Di., 24. Nov. 2026"."""
    there = at.astimezone(zone)
    dot = "." if language == "de" else ""
    weekday = SHORT_WEEKDAYS[language][there.weekday()]
    return f"{weekday}{dot}, {_day_and_month(there, language)} {there.year}"


def day_heading(at: datetime, now: datetime, zone: tzinfo, language: str) -> str:
    """Return the heading of a day in a list: "Heute", "Gestern", else "Sonntag, 22. Nov. 2026"."""
    there, days = at.astimezone(zone), _days_between(at, now, zone)
    word = {-1: "yesterday", 0: "today", 1: "tomorrow"}.get(days)
    if word:
        return WORDS[language][word].capitalize()
    weekday = WEEKDAYS[language][there.weekday()]
    return f"{weekday}, {_day_and_month(there, language)} {there.year}"


def day_long(day: date, language: str) -> str:
    """Return "Dienstag, 24. Nov. 2026"."""
    return f"{WEEKDAYS[language][day.weekday()]}, {_day_and_month(day, language)} {day.year}"


def days(first: date, last: date, language: str) -> str:
    """Return from when to when: "24.–30. Nov. 2026", "28. Nov. – 4. Dez. 2026"."""
    end = f"{_day_and_month(last, language)} {last.year}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}{'.' if language == 'de' else ''}–{end}"
    year = f" {first.year}" if first.year != last.year else ""
    return f"{_day_and_month(first, language)}{year} – {end}"


def date_and_clock(at: datetime, zone: tzinfo, language: str) -> str:
    """Return the head of a page: "Di., 24. Nov. · 14:32 Uhr"."""
    there = at.astimezone(zone)
    dot = "." if language == "de" else ""
    clock = WORDS[language]["clock"].format(f"{there:%H:%M}")
    weekday = SHORT_WEEKDAYS[language][there.weekday()]
    return f"{weekday}{dot}, {_day_and_month(there, language)} · {clock}"


def stamp(at: datetime, zone: tzinfo, language: str) -> str:
    """Return an instant in full: "Di., 24. Nov. 2026, 14:32:07 Uhr (Europe/Berlin)"."""
    there = at.astimezone(zone)
    clock = WORDS[language]["clock"].format(f"{there:%H:%M:%S}")
    return f"{day(at, zone, language)}, {clock} ({zone})"


def relative(at: datetime, now: datetime, language: str, *, coarse: bool = False) -> str:
    """Return the distance from now: "vor 2 Min.", "in 3 Std. 28 Min."; `coarse` leaves one unit.

    The past is always coarse; its first minute is "gerade eben". The future counts its last minute
    in seconds, and an instant that has just come is "jetzt".
    """
    words = WORDS[language]
    if at <= now:
        seconds = int((now - at).total_seconds())
        if seconds < 60:
            return words["just now"]
        return words["ago"].format(_span(seconds, language, coarse=True, dative=True))
    # A countdown must not read "in 0 s" while there is time left.
    seconds = -((now - at) // timedelta(seconds=1))
    return words["in"].format(_span(seconds, language, coarse=coarse, dative=True))


def left(at: datetime, now: datetime, language: str, *, guess: bool = False) -> str:
    """Return how long until something is done: "noch etwa 41 Min."; `guess` is by its past."""
    words = WORDS[language]
    if at <= now:
        return words["soon"]
    seconds = -((now - at) // timedelta(seconds=1))
    return words["estimate" if guess else "left"].format(_span(seconds, language))


def duration(seconds: float, language: str, *, exact: bool = False) -> str:
    """Return how long: "41 s", "3 Min. 12 s", "25 Min.", "1 Std. 52 Min.".

    `exact` gives what has ended tenths below ten seconds, "0,4 s", and still less in "43 ms".
    """
    seconds = max(0.0, seconds)
    if exact and seconds < 0.0005:
        return f"<{NBSP}1{NBSP}ms"
    if exact and seconds < 0.0995:
        return f"{seconds * 1000:.0f}{NBSP}ms"
    if exact and seconds < 9.95:
        return f"{_decimal(seconds, language)}{NBSP}{WORDS[language]['s']}"
    return _span(int(seconds), language, seconds_below=600)


def span(seconds: float, language: str) -> str:
    """Return a length of time in one unit, as it follows a preposition: "12 Tagen"."""
    return _span(int(max(0.0, seconds)), language, coarse=True, dative=True)


def number(value: int, language: str) -> str:
    """Return a whole number with its thousands apart: "1.280"."""
    grouped = f"{value:,}"
    return grouped.replace(",", ".") if language == "de" else grouped


def size(count: int, language: str) -> str:
    """Return a number of bytes in decimal units: "17,8 GB"."""
    if count < 1000:
        return f"{count}{NBSP}B"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        value, unit = value / 1000, larger
        if value < 999.5:
            break
    written = _decimal(value, language) if value < 99.95 else number(round(value), language)
    return f"{written}{NBSP}{unit}"


def _span(
    seconds: int,
    language: str,
    *,
    coarse: bool = False,
    dative: bool = False,
    seconds_below: int = 0,
) -> str:
    """Return at most two units of time.

    Seconds stand beside minutes only below `seconds_below`, hours beside days only below a week.
    """
    words = WORDS[language]
    minutes, rest = divmod(seconds, 60)
    hours, left_minutes = divmod(minutes, 60)
    days, left_hours = divmod(hours, 24)
    if not minutes:
        return f"{seconds}{NBSP}{words['s']}"
    if not hours:
        first, second, unit = f"{minutes}{NBSP}{words['min']}", rest, words["s"]
        if seconds >= seconds_below:
            second = 0
    elif not days:
        first, second, unit = f"{hours}{NBSP}{words['h']}", left_minutes, words["min"]
    else:
        plural = words["days (dative)"] if dative else words["days"]
        name = words["day"] if days == 1 else plural
        first, second, unit = f"{number(days, language)}{NBSP}{name}", left_hours, words["h"]
        if days >= 7:
            second = 0
    return first if coarse or not second else f"{first} {second}{NBSP}{unit}"


def _days_between(at: datetime, now: datetime, zone: tzinfo) -> int:
    return (at.astimezone(zone).date() - now.astimezone(zone).date()).days


def _day_and_month(there: date, language: str) -> str:
    dot = "." if language == "de" else ""
    return f"{there.day}{dot} {MONTHS[language][there.month - 1]}"


def _decimal(value: float, language: str) -> str:
    written = f"{value:.1f}"
    return written.replace(".", ",") if language == "de" else written
