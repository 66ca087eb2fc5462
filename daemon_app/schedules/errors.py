"""What is wrong with a schedule's text, and the way out, in German and English."""

from __future__ import annotations

from typing import Final

from daemon_app.schedules.language import Both, spoken

SHOWN_CHARACTERS = 40

FIELDS: Final[dict[str, Both]] = {
    "kind": {"de": "Art", "en": "kind"},
    "timezone": {"de": "Zeitzone", "en": "time zone"},
    "schedule": {"de": "Zeitplan", "en": "schedule"},
    "minute": {"de": "Minute", "en": "minute"},
    "hour": {"de": "Stunde", "en": "hour"},
    "day": {"de": "Tag", "en": "day of month"},
    "month": {"de": "Monat", "en": "month"},
    "weekday": {"de": "Wochentag", "en": "weekday"},
}

FIVE_FIELDS_DE = "Minute, Stunde, Tag, Monat, Wochentag – zum Beispiel „30 3 * * MON-FRI“."
FIVE_FIELDS_EN = "Minute, hour, day, month, weekday – for example “30 3 * * MON-FRI”."

# code: language: (message, hint)
TEXTS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    # ── any kind ──────────────────────────────────────────────────────────────
    "kind_unknown": {
        "de": ("Die Art „{value}“ gibt es nicht.", "Bekannt sind {known}."),
        "en": ("There is no kind “{value}”.", "Known are {known}."),
    },
    "kind_later": {
        "de": ("Zeitpläne der Art „{value}“ gibt es noch nicht.", "Wählen Sie vorerst {known}."),
        "en": ("Schedules of the kind “{value}” are not available yet.", "Choose {known} for now."),
    },
    "zone_missing": {
        "de": ("Die Zeitzone fehlt.", "Zum Beispiel „Europe/Berlin“."),
        "en": ("The time zone is missing.", "For example “Europe/Berlin”."),
    },
    "zone_unknown": {
        "de": ("Die Zeitzone „{value}“ gibt es nicht.", "Zum Beispiel „Europe/Berlin“."),
        "en": ("There is no time zone “{value}”.", "For example “Europe/Berlin”."),
    },
    "zone_near": {
        "de": ("Die Zeitzone „{value}“ gibt es nicht.", "Meinten Sie {near}?"),
        "en": ("There is no time zone “{value}”.", "Did you mean {near}?"),
    },
    "too_long": {
        "de": (
            "Der Zeitplan ist zu lang: {length} Zeichen, erlaubt sind {limit}.",
            "Teilen Sie ihn auf mehrere Jobs auf.",
        ),
        "en": (
            "The schedule is too long: {length} characters, {limit} are allowed.",
            "Split it into several jobs.",
        ),
    },
    "manual_text": {
        "de": (
            "Ein Job von Hand hat keinen Zeitplan – hier steht „{value}“.",
            "Leeren Sie das Feld oder wählen Sie eine andere Art.",
        ),
        "en": (
            "A job that is started by hand has no schedule – here stands “{value}”.",
            "Empty the field or choose another kind.",
        ),
    },
    # ── interval ──────────────────────────────────────────────────────────────
    "interval_missing": {
        "de": ("Der Abstand fehlt.", "Zum Beispiel „30s“, „5m“, „1h30m“, „24h“ oder „7d“."),
        "en": ("The interval is missing.", "For example “30s”, “5m”, “1h30m”, “24h” or “7d”."),
    },
    "interval_bare": {
        "de": ("„{value}“ hat keine Einheit.", "Meinten Sie {value}m?"),
        "en": ("“{value}” has no unit.", "Did you mean {value}m?"),
    },
    "interval_zero": {
        "de": ("Ein Abstand von null ist nicht möglich.", "Der kürzeste Abstand ist „1s“."),
        "en": ("An interval of zero is not possible.", "The shortest interval is “1s”."),
    },
    "interval_zero_part": {
        "de": ("„{part}“ in „{value}“ sagt nichts.", "Lassen Sie „{part}“ weg."),
        "en": ("“{part}” in “{value}” says nothing.", "Leave “{part}” out."),
    },
    "interval_long": {
        "de": (
            "„{value}“ ist zu lang: höchstens {limit} Tage.",
            "Nehmen Sie für seltene Läufe einen Cron-Ausdruck oder einen festen Zeitpunkt.",
        ),
        "en": (
            "“{value}” is too long: {limit} days at most.",
            "Use a cron expression or a fixed date for rare runs.",
        ),
    },
    "interval_order": {
        "de": (
            "In „{value}“ stehen die Einheiten nicht in der Folge d, h, m, s.",
            "Schreiben Sie „{better}“.",
        ),
        "en": ("The units in “{value}” are not in the order d, h, m, s.", "Write “{better}”."),
    },
    "interval_twice": {
        "de": ("In „{value}“ steht die Einheit „{unit}“ zweimal.", "Schreiben Sie „{better}“."),
        "en": ("“{value}” has the unit “{unit}” twice.", "Write “{better}”."),
    },
    "interval_written": {
        "de": ("„{value}“ ist kein Abstand.", "Meinten Sie „{better}“?"),
        "en": ("“{value}” is not an interval.", "Did you mean “{better}”?"),
    },
    "interval_negative": {
        "de": ("Ein Abstand kann nicht negativ sein.", "Zum Beispiel „5m“."),
        "en": ("An interval cannot be negative.", "For example “5m”."),
    },
    "interval_is_cron": {
        "de": (
            "„{value}“ sieht nach einem Cron-Ausdruck aus.",
            "Wählen Sie die Art „cron“, oder schreiben Sie einen Abstand wie „1h30m“.",
        ),
        "en": (
            "“{value}” looks like a cron expression.",
            "Choose the kind “cron”, or write an interval such as “1h30m”.",
        ),
    },
    "interval_syntax": {
        "de": (
            "„{value}“ ist kein Abstand.",
            "Zahlen mit d, h, m oder s, ohne Leerzeichen: „30s“, „5m“, „1h30m“, „24h“, „7d“.",
        ),
        "en": (
            "“{value}” is not an interval.",
            "Numbers with d, h, m or s, without blanks: “30s”, “5m”, “1h30m”, “24h”, “7d”.",
        ),
    },
    # ── once ──────────────────────────────────────────────────────────────────
    "once_missing": {
        "de": ("Der Zeitpunkt fehlt.", "Zum Beispiel „2026-12-24 18:00“."),
        "en": ("The date and time are missing.", "For example “2026-12-24 18:00”."),
    },
    "once_no_time": {
        "de": ("„{value}“ hat keine Uhrzeit.", "Schreiben Sie „{value} 18:00“."),
        "en": ("“{value}” has no time of day.", "Write “{value} 18:00”."),
    },
    "once_no_date": {
        "de": ("„{value}“ hat kein Datum.", "Zum Beispiel „2026-12-24 {value}“."),
        "en": ("“{value}” has no date.", "For example “2026-12-24 {value}”."),
    },
    "once_syntax": {
        "de": (
            "„{value}“ ist kein Zeitpunkt.",
            "Zum Beispiel „2026-12-24 18:00“ oder „24.12.2026 18:00“.",
        ),
        "en": (
            "“{value}” is not a date and time.",
            "For example “2026-12-24 18:00” or “24.12.2026 18:00”.",
        ),
    },
    "once_date": {
        "de": ("Das Datum „{date}“ gibt es nicht.", "Zum Beispiel „2026-12-24 18:00“."),
        "en": ("There is no date “{date}”.", "For example “2026-12-24 18:00”."),
    },
    "once_time": {
        "de": (
            "Die Uhrzeit „{time}“ gibt es nicht.",
            "Eine Uhrzeit geht von 00:00 bis 23:59; Mitternacht ist 00:00 des folgenden Tages.",
        ),
        "en": (
            "There is no time of day “{time}”.",
            "A time goes from 00:00 to 23:59; midnight is 00:00 of the following day.",
        ),
    },
    "once_offset": {
        "de": (
            "Den Abstand zur Weltzeit „{offset}“ gibt es nicht.",
            "Zum Beispiel „+01:00“ oder „Z“ – oder lassen Sie ihn weg.",
        ),
        "en": (
            "There is no UTC offset “{offset}”.",
            "For example “+01:00” or “Z” – or leave it out.",
        ),
    },
    "once_year": {
        "de": ("Das Jahr {year} liegt zu fern.", "Erlaubt sind die Jahre {low} bis {high}."),
        "en": (
            "The year {year} is too far away.",
            "Years from {low} to {high} are allowed.",
        ),
    },
    "once_past": {
        "de": (
            "Dieser Zeitpunkt ist vorbei: {date} um {time} Uhr – der Job startet nie.",
            "Wählen Sie einen Zeitpunkt in der Zukunft.",
        ),
        "en": (
            "This moment has passed: {date} at {time} – the job never starts.",
            "Choose a moment in the future.",
        ),
    },
    # ── cron: the whole expression ────────────────────────────────────────────
    "cron_missing": {
        "de": ("Der Cron-Ausdruck fehlt.", FIVE_FIELDS_DE),
        "en": ("The cron expression is missing.", FIVE_FIELDS_EN),
    },
    "cron_few_fields": {
        "de": ("Ein Cron-Ausdruck hat fünf Felder, nicht {count}.", FIVE_FIELDS_DE),
        "en": ("A cron expression has five fields, not {count}.", FIVE_FIELDS_EN),
    },
    "cron_many_fields": {
        "de": (
            "Ein Cron-Ausdruck hat fünf Felder, nicht {count}.",
            "Felder für Sekunden oder Jahre gibt es nicht. Meinten Sie „{better}“?",
        ),
        "en": (
            "A cron expression has five fields, not {count}.",
            "There is no field for seconds or years. Did you mean “{better}”?",
        ),
    },
    "cron_trailing": {
        "de": (
            "Nach den fünf Feldern steht noch „{rest}“.",
            "Hier stehen nur die fünf Felder; der Befehl hat sein eigenes Feld.",
        ),
        "en": (
            "After the five fields there is still “{rest}”.",
            "Only the five fields belong here; the command has its own field.",
        ),
    },
    "cron_is_interval": {
        "de": (
            "„{value}“ ist ein Abstand, kein Cron-Ausdruck.",
            "Wählen Sie dafür die Art „Alle …“ („interval“).",
        ),
        "en": (
            "“{value}” is an interval, not a cron expression.",
            "Choose the kind “Every …” (“interval”) for it.",
        ),
    },
    "cron_variable": {
        "de": (
            "„{part}“ gehört nicht in den Cron-Ausdruck.",
            "Die Zeitzone hat ihr eigenes Feld.",
        ),
        "en": (
            "“{part}” does not belong in the cron expression.",
            "The time zone has its own field.",
        ),
    },
    "cron_reboot": {
        "de": (
            "„@reboot“ ist kein Zeitplan, sondern ein Ereignis.",
            "Ereignisse als Auslöser gibt es noch nicht.",
        ),
        "en": (
            "“@reboot” is not a schedule but an event.",
            "Events as triggers are not available yet.",
        ),
    },
    "cron_every": {
        "de": (
            "„@every“ gibt es hier nicht.",
            "Wählen Sie die Art „Alle …“ („interval“) und einen Abstand, zum Beispiel „5m“.",
        ),
        "en": (
            "There is no “@every” here.",
            "Choose the kind “Every …” (“interval”) and write the interval, for example “5m”.",
        ),
    },
    "cron_macro": {
        "de": ("Das Kürzel „{value}“ gibt es nicht.", "Bekannt sind {known}."),
        "en": ("There is no macro “{value}”.", "Known are {known}."),
    },
    "cron_blank": {
        "de": (
            "Im Cron-Ausdruck steht ein unsichtbares Zeichen ({character}).",
            "Trennen Sie die Felder mit gewöhnlichen Leerzeichen.",
        ),
        "en": (
            "There is an invisible character ({character}) in the cron expression.",
            "Separate the fields with ordinary blanks.",
        ),
    },
    "cron_dash": {
        "de": (
            "Im Cron-Ausdruck steht „{part}“ ({character}) statt eines Bindestrichs.",
            "Schreiben Sie „-“.",
        ),
        "en": (
            "There is “{part}” ({character}) instead of a hyphen in the cron expression.",
            "Write “-”.",
        ),
    },
    "cron_never": {
        "de": (
            "Dieser Zeitplan trifft nie zu ({why}).",
            "Für den letzten Tag des Monats schreiben Sie „L“ in das Feld ‚Tag‘.",
        ),
        "en": (
            "This schedule never fires ({why}).",
            "Write “L” in the field ‘day of month’ for the last day of the month.",
        ),
    },
    "cron_never_both": {
        "de": (
            (
                "Dieser Zeitplan trifft nie zu: Tag und Wochentag müssen beide zutreffen, "
                "und das gibt es nicht."
            ),
            "Setzen Sie eines der beiden Felder auf „*“.",
        ),
        "en": (
            (
                "This schedule never fires: day of month and weekday must both match, "
                "and that does not happen."
            ),
            "Set one of the two fields to “*”.",
        ),
    },
    "cron_never_clock": {
        "de": (
            (
                "Dieser Zeitplan trifft nie zu: An diesen Tagen gibt es die Uhrzeit "
                "wegen der Zeitumstellung in {zone} nicht."
            ),
            (
                "Wählen Sie eine andere Uhrzeit, oder lassen Sie das Feld ‚Minute‘ nicht "
                "mit „*“ beginnen – dann startet der Lauf direkt nach der Umstellung."
            ),
        ),
        "en": (
            "This schedule never fires: on these days the clock change in {zone} skips the time.",
            (
                "Choose another time, or let the field ‘minute’ not begin with “*” – the run "
                "then starts right after the change."
            ),
        ),
    },
    # ── cron: one field ───────────────────────────────────────────────────────
    "range": {
        "de": (
            "Das Feld ‚{field}‘ geht nur von {low} bis {high} – hier steht {part}.",
            "{range_hint}",
        ),
        "en": (
            "The field ‘{field}’ only goes from {low} to {high} – here stands {part}.",
            "{range_hint}",
        ),
    },
    "empty_item": {
        "de": (
            "Im Feld ‚{field}‘ fehlt vor oder nach einem Komma ein Wert: „{value}“.",
            "Schreiben Sie „{better}“.",
        ),
        "en": (
            "A value is missing before or after a comma in the field ‘{field}’: “{value}”.",
            "Write “{better}”.",
        ),
    },
    "wrap": {
        "de": (
            "Im Feld ‚{field}‘ läuft der Bereich „{part}“ rückwärts.",
            "Schreiben Sie „{better}“.",
        ),
        "en": (
            "The range “{part}” in the field ‘{field}’ runs backwards.",
            "Write “{better}”.",
        ),
    },
    "double_range": {
        "de": (
            "Im Feld ‚{field}‘ hat „{part}“ mehr als einen Bindestrich.",
            "Ein Bereich ist „von-bis“; mehrere trennt ein Komma: „{better}“.",
        ),
        "en": (
            "“{part}” in the field ‘{field}’ has more than one hyphen.",
            "A range is “from-to”; a comma separates several: “{better}”.",
        ),
    },
    "double_step": {
        "de": (
            "Im Feld ‚{field}‘ hat „{part}“ mehr als einen Schrägstrich.",
            "Ein Schritt steht nur einmal: „{better}“.",
        ),
        "en": (
            "“{part}” in the field ‘{field}’ has more than one slash.",
            "A step stands only once: “{better}”.",
        ),
    },
    "zero_step": {
        "de": (
            "Im Feld ‚{field}‘ ist der Schritt null: „{part}“.",
            "Ein Schritt ist mindestens 1, zum Beispiel „*/5“.",
        ),
        "en": (
            "The step in the field ‘{field}’ is zero: “{part}”.",
            "A step is at least 1, for example “*/5”.",
        ),
    },
    "no_step": {
        "de": (
            "Im Feld ‚{field}‘ fehlt bei „{part}“ eine Zahl nach dem Schrägstrich.",
            "Zum Beispiel „*/5“.",
        ),
        "en": (
            "A number is missing after the slash of “{part}” in the field ‘{field}’.",
            "For example “*/5”.",
        ),
    },
    "slash_alone": {
        "de": (
            "Im Feld ‚{field}‘ fehlt bei „{part}“ etwas vor dem Schrägstrich.",
            "Schreiben Sie „*{part}“.",
        ),
        "en": (
            "Something is missing before the slash of “{part}” in the field ‘{field}’.",
            "Write “*{part}”.",
        ),
    },
    "star_mixed": {
        "de": (
            "Im Feld ‚{field}‘ steht ein Stern neben anderen Zeichen: „{part}“.",
            "Ein Stern steht allein oder mit Schritt: {better}.",
        ),
        "en": (
            "A star stands next to other characters in the field ‘{field}’: “{part}”.",
            "A star stands alone or with a step: {better}.",
        ),
    },
    "long_number": {
        "de": (
            "Im Feld ‚{field}‘ hat die Zahl {part} zu viele Ziffern.",
            "Erlaubt sind höchstens {digits}{better}.",
        ),
        "en": (
            "The number {part} in the field ‘{field}’ has too many digits.",
            "At most {digits} are allowed{better}.",
        ),
    },
    "decimal": {
        "de": (
            "Im Feld ‚{field}‘ steht eine Kommazahl: „{part}“.",
            "Nur ganze Zahlen; mehrere Werte trennt ein Komma.",
        ),
        "en": (
            "There is a decimal number in the field ‘{field}’: “{part}”.",
            "Only whole numbers; a comma separates several values.",
        ),
    },
    "sign": {
        "de": (
            "Im Feld ‚{field}‘ steht vor der Zahl ein Vorzeichen: „{part}“.",
            "Schreiben Sie die Zahl ohne Vorzeichen oder einen Bereich wie „1-5“.",
        ),
        "en": (
            "There is a sign before the number in the field ‘{field}’: “{part}”.",
            "Write the number without a sign, or a range such as “1-5”.",
        ),
    },
    "open_range": {
        "de": (
            "Im Feld ‚{field}‘ hat der Bereich „{part}“ kein Ende.",
            "Ein Bereich ist „von-bis“, zum Beispiel „1-5“.",
        ),
        "en": (
            "The range “{part}” in the field ‘{field}’ has no end.",
            "A range is “from-to”, for example “1-5”.",
        ),
    },
    "hexadecimal": {
        "de": (
            "Im Feld ‚{field}‘ ist „{part}“ keine Dezimalzahl.",
            "Schreiben Sie gewöhnliche Ziffern, zum Beispiel „5“.",
        ),
        "en": (
            "“{part}” in the field ‘{field}’ is not a decimal number.",
            "Write ordinary digits, for example “5”.",
        ),
    },
    "foreign_digit": {
        "de": (
            "Im Feld ‚{field}‘ stehen Ziffern einer anderen Schrift: „{part}“.",
            "Schreiben Sie „{better}“.",
        ),
        "en": (
            "There are digits of another script in the field ‘{field}’: “{part}”.",
            "Write “{better}”.",
        ),
    },
    "question_mark": {
        "de": ("Im Feld ‚{field}‘ steht „?“.", "Schreiben Sie „*“."),
        "en": ("There is a “?” in the field ‘{field}’.", "Write “*”."),
    },
    "random": {
        "de": (
            "Im Feld ‚{field}‘ steht „{part}“: zufällige Zeiten gibt es nicht.",
            "Schreiben Sie eine feste Zahl.",
        ),
        "en": (
            "There is “{part}” in the field ‘{field}’: random times do not exist here.",
            "Write a fixed number.",
        ),
    },
    "nth": {
        "de": (
            "Im Feld ‚Wochentag‘ geht die Zahl nach „#“ nur von 1 bis 5 – hier steht „{part}“.",
            "„MON#1“ ist der erste Montag im Monat; den letzten schreiben Sie „1L“.",
        ),
        "en": (
            (
                "The number after “#” in the field ‘weekday’ only goes from 1 to 5 – "
                "here stands “{part}”."
            ),
            "“MON#1” is the first Monday of the month; write the last one as “1L”.",
        ),
    },
    "last_weekday_alone": {
        "de": (
            "Im Feld ‚Wochentag‘ steht „L“ ohne Tag.",
            (
                "Schreiben Sie zum Beispiel „5L“ für den letzten Freitag im Monat; "
                "der letzte Tag des Monats steht als „L“ im Feld ‚Tag‘."
            ),
        ),
        "en": (
            "There is an “L” without a day in the field ‘weekday’.",
            (
                "Write for example “5L” for the last Friday of the month; the last day of "
                "the month is an “L” in the field ‘day of month’."
            ),
        ),
    },
    "last_weekday_in_day": {
        "de": (
            "„{part}“ gehört in das Feld ‚Wochentag‘, nicht in das Feld ‚Tag‘.",
            "Für den letzten Tag des Monats schreiben Sie „L“.",
        ),
        "en": (
            "“{part}” belongs in the field ‘weekday’, not in the field ‘day of month’.",
            "Write “L” for the last day of the month.",
        ),
    },
    "before_last": {
        "de": (
            "„{part}“ gibt es nicht: vom Monatsende wird nicht rückwärts gezählt.",
            "„L“ ist der letzte Tag des Monats, „LW“ der letzte Tag von Montag bis Freitag.",
        ),
        "en": (
            "There is no “{part}”: days are not counted back from the end of the month.",
            "“L” is the last day of the month, “LW” the last day from Monday to Friday.",
        ),
    },
    "misplaced": {
        "de": (
            "„{letter}“ gibt es im Feld ‚{field}‘ nicht: „{part}“.",
            "„L“, „LW“ und „15W“ stehen im Feld ‚Tag‘, „5L“ und „MON#1“ im Feld ‚Wochentag‘.",
        ),
        "en": (
            "There is no “{letter}” in the field ‘{field}’: “{part}”.",
            (
                "“L”, “LW” and “15W” stand in the field ‘day of month’, “5L” and “MON#1” in "
                "the field ‘weekday’."
            ),
        ),
    },
    "special_mixed": {
        "de": (
            "Im Feld ‚{field}‘ lässt sich „{part}“ nicht verbinden.",
            "„{letter}“ geht nicht mit Bereich oder Schritt; zählen Sie die Werte mit Kommas auf.",
        ),
        "en": (
            "“{part}” cannot be combined in the field ‘{field}’.",
            "“{letter}” does not go with a range or a step; list the values with commas.",
        ),
    },
    "name_elsewhere": {
        "de": (
            "„{part}“ gehört in das Feld ‚{other}‘, hier ist das Feld ‚{field}‘.",
            "Die Folge ist: " + FIVE_FIELDS_DE,
        ),
        "en": (
            "“{part}” belongs in the field ‘{other}’, this is the field ‘{field}’.",
            "The order is: " + FIVE_FIELDS_EN,
        ),
    },
    "name": {
        "de": ("Im Feld ‚{field}‘ ist „{part}“ unbekannt.", "Meinten Sie {near}?"),
        "en": ("“{part}” is unknown in the field ‘{field}’.", "Did you mean {near}?"),
    },
    "item": {
        "de": (
            "Im Feld ‚{field}‘ ist „{part}“ nicht zu verstehen.",
            "Erlaubt sind Zahlen, „*“, Listen „1,15“, Bereiche „1-5“ und Schritte „*/5“.",
        ),
        "en": (
            "“{part}” in the field ‘{field}’ cannot be understood.",
            "Numbers, “*”, lists “1,15”, ranges “1-5” and steps “*/5” are allowed.",
        ),
    },
}


def shown(text: str) -> str:
    """Return `text` fit for a sentence: short, and with invisible characters named (U+00A0).

    The result can be encoded and printed whatever was typed, lone surrogates included.
    """
    short = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return "".join(c if c.isprintable() else f"[U+{ord(c):04X}]" for c in short)


class ScheduleError(ValueError):
    """A schedule that cannot be, with a message and a hint in German and English.

    code      what is wrong, stable, one of the keys of TEXTS
    field     where: "kind", "timezone", "schedule", or a part of a cron expression
              ("minute", "hour", "day", "month", "weekday")
    value     what stands there, shortened and safe to print

    `str()` is the English message followed by the hint.
    """

    def __init__(self, code: str, field: str, value: str, **facts: str | int | Both) -> None:
        self.code = code
        self.field = field
        self.value = shown(value)
        self.facts = facts
        super().__init__(f"{self.message('en')} {self.hint('en')}")

    @property
    def argument(self) -> str:
        """Which argument of `parse` is at fault: "kind", "tz" or "text"."""
        return {"kind": "kind", "timezone": "tz"}.get(self.field, "text")

    def message(self, language: str) -> str:
        """Return what is wrong, as one sentence."""
        return self._say(0, language)

    def hint(self, language: str) -> str:
        """Return the way out, as one sentence."""
        return self._say(1, language)

    def __reduce__(self) -> tuple[object, ...]:
        return (_restored, (self.code, self.field, self.value, self.facts))

    def _say(self, which: int, language: str) -> str:
        language = spoken(language)
        facts: dict[str, str | int] = {
            name: fact[language] if isinstance(fact, dict) else fact
            for name, fact in self.facts.items()
        }
        named = {"field": FIELDS[self.field][language], "value": self.value}
        return TEXTS[self.code][language][which].format(**(named | facts))


def _restored(
    code: str, field: str, value: str, facts: dict[str, str | int | Both]
) -> ScheduleError:
    """Rebuild an unpickled error; exceptions forget keyword arguments by themselves."""
    return ScheduleError(code, field, value, **facts)
