"""`bach daemon audit`: what was asked for, whether the log is whole, and the log as a file."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import clicks, language, project, terminal
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import ngettext, pgettext
from daemon_app.cli.outcome import Code, Refusal

if TYPE_CHECKING:
    from daemon_app.models import Change

JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
SHOWN = 50
# daemon_app.models.change, without Django
SUBJECTS = (*("job", "run", "pool", "policy", "hold", "presence", "incident", "account", "token"),)
WAYS = ("page", "api", "cli", "admin", "daemon")
DIGEST = 64  # characters


def _filters(command: Any) -> Any:
    """Add the options by which rows are chosen."""
    for option in reversed(
        (
            click.option("--subject", type=click.Choice(SUBJECTS), help=_("What it is about.")),
            click.option("--via", type=click.Choice(WAYS), help=_("By which way it was asked.")),
            click.option("--by", default="", metavar=_("NAME"), help=_("Who asked.")),
            click.option(
                "--name", default="", metavar=_("TEXT"), help=_("Part of the name, e.g. a job's.")
            ),
            click.option(
                "--since",
                type=click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M")),
                metavar=_("DAY"),
                help=_("From this day on, for example 2026-11-01."),
            ),
            click.option(
                "--until",
                type=click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M")),
                metavar=_("DAY"),
                help=_("To this day, it included."),
            ),
        )
    ):
        command = option(command)
    return command


@click.group(
    cls=clicks.Group,
    invoke_without_command=True,
    help=_(
        "List what people and programs have asked for, newest first.\n\n"
        "Who it was, by which way, and from what to what. Rows are only ever added, and each "
        "carries the digest of the one before."
    ),
    examples=(
        ("bach daemon audit", ""),
        ("bach daemon audit --subject token --since 2026-11-01", ""),
        ("bach daemon audit verify", _("is it as it was written?")),
        ("bach daemon audit export > audit.jsonl", ""),
        ("bach daemon audit export --digest", _("one line to keep elsewhere")),
    ),
    short_help=_("What people and programs have asked for."),
)
@_filters
@click.option(
    "--limit",
    type=clicks.WholeNumber(1, 10_000, SHOWN),
    default=SHOWN,
    show_default=True,
    help=_("At most so many."),
)
@JSON
@click.pass_context
def audit(context: click.Context, /, limit: int, as_json: bool, **wanted: Any) -> int:
    """Show the newest rows, when no command about them follows."""
    if context.invoked_subcommand:
        return Code.OK
    with project.database(queue=False):
        from daemon_app.models import Change

        found = list(Change.objects.chosen(_asked(wanted))[:limit])
        if as_json:
            terminal.say_json([_as_json(row) for row in found])
            return Code.OK
        if not found:
            terminal.say(_("There is nothing like that."))
            return Code.OK
        _table(found)
    return Code.OK


def _asked(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what the options ask for, times as instants of this machine's zone."""
    from django.utils import timezone

    asked = dict(wanted)
    for name in ("since", "until"):
        at: datetime | None = asked[name]
        if at is None:
            continue
        try:
            if name == "until" and (at.hour, at.minute) == (0, 0):
                at += timedelta(days=1)
            asked[name] = timezone.make_aware(at)
        except OverflowError:  # the end of all days
            asked[name] = None
    return asked


def _as_json(row: "Change") -> dict[str, Any]:
    return {"id": row.pk, **row.told(), "previous": row.previous, "digest": row.digest}


def _table(rows: "list[Change]") -> None:
    from django.utils import timezone

    from daemon_app import formats
    from daemon_app.tiles.changes import change_rows

    now, zone, spoken = timezone.now(), timezone.get_current_timezone(), language.current()
    shown = []
    for each in change_rows(rows, now):
        change = each.change
        via = change.via if change.token_id is None else f"{change.via} #{change.token_id}"
        differences = [
            f"{one.label}: {one.remark or f'{one.before} → {one.after}'}"
            for one in each.differences
        ]
        shown.append(
            (
                str(change.pk),
                formats.moment(change.at, now, zone, spoken),
                each.by,
                via,
                f"{change.get_subject_display()} {change.name}".strip(),
                "; ".join([" ".join(filter(None, (each.mark.word, each.about))), *differences]),
            )
        )
    terminal.table(
        (
            pgettext("column", "ID"),
            pgettext("column", "When"),
            pgettext("column", "Who"),
            pgettext("column", "Way"),
            pgettext("column", "About"),
            pgettext("column", "What"),
        ),
        shown,
    )


@audit.command(
    help=_(
        "Look at every row from the first on: is each as it was written, is none missing between "
        "two others?\n\n"
        "It ends with 1 and names the first row at which the chain is broken. Whether rows were "
        "cut off at the end, the log itself can't show: give the digest of a row that was noted "
        "elsewhere (export --digest) as --head."
    ),
    examples=(
        ("bach daemon audit verify", ""),
        ("bach daemon audit verify --head 3a7b…", _("is what was noted still there?")),
    ),
    short_help=_("Is the log as it was written?"),
)
@click.option(
    "--head", default="", metavar=_("DIGEST"), help=_("A digest that must be among the rows.")
)
@JSON
def verify(head: str, as_json: bool) -> int:
    """Follow the chain."""
    head = head.strip().lower()
    if head and (len(head) != DIGEST or set(head) - set("0123456789abcdef")):
        raise click.BadParameter(
            _("A digest has 64 characters of 0-9 and a-f, as “export --digest” prints it."),
            param_hint="--head",
        )
    with project.database(queue=False):
        from daemon_app import formats, witness
        from daemon_app.models import change

        spoken = language.current()
        noted = witness.noted()
        count = change.Change.objects.count()
        is_long = count >= change.PER_PIECE and not as_json
        with terminal.progress(_("Rows"), count, is_long=is_long) as told:
            # It tells how many there were by then.
            done = 0

            def tell(rows: int) -> None:
                nonlocal done
                told(rows - done)
                done = rows

            found = change.verify(head, each=tell, noted=noted)
        is_whole = found.broken is None and found.knows_head
        if as_json:
            terminal.say_json(
                {
                    "ok": is_whole,
                    "rows": found.rows,
                    "last": found.last,
                    "digest": found.head,
                    "broken": found.broken,
                    "fault": found.fault,
                    "head_found": found.knows_head if head else None,
                    "noted": len(noted),
                }
            )
            return Code.OK if is_whole else Code.FAILED
        if found.broken is not None:
            said = {
                "changed": _("Row %(id)s is not as it was written."),
                "gap": _("Row %(id)s does not follow the one before: rows are missing or added."),
                "other": _("Row %(id)s is not the one that the journal knows: it was rewritten."),
                "cut": _(
                    "The journal knows a row %(id)s, which is not there: the end was cut off."
                ),
            }
            raise Refusal(
                said[found.fault] % {"id": found.broken},
                ngettext(
                    "%(n)s row before it is as it was written.",
                    "%(n)s rows before it are as they were written.",
                    found.rows,
                )
                % {"n": formats.number(found.rows, spoken)},
            )
        if not found.knows_head:
            raise Refusal(
                _("No row has this digest: the end was cut off, or everything was rewritten."),
                _("The newest row now is %(id)s.") % {"id": found.last or "–"},
            )
        terminal.say(
            ngettext(
                "%(n)s row, as it was written.", "%(n)s rows, all as they were written.", found.rows
            )
            % {"n": formats.number(found.rows, spoken)}
        )
        if found.last is not None:
            terminal.say(f"{found.last} {found.head}")
            if not head:
                terminal.note(
                    _(
                        "Keep this line elsewhere: only with it can be seen later whether the end "
                        "was cut off."
                    )
                )
    return Code.OK


@audit.command(
    help=_(
        "Write the log as lines of JSON, the oldest row first, with the digests of the chain.\n\n"
        "With --digest only the number, the time and the digest of the newest row: a line to keep "
        "elsewhere, for example printed or in a mail."
    ),
    examples=(
        ("bach daemon audit export > audit.jsonl", ""),
        ("bach daemon audit export --subject job --since 2026-11-01", ""),
        ("bach daemon audit export --digest", ""),
    ),
    short_help=_("Write the log as lines of JSON."),
)
@_filters
@click.option("--digest", "only_digest", is_flag=True, help=_("Only the line to keep elsewhere."))
def export(only_digest: bool, **wanted: Any) -> int:
    """Write rows, or the head."""
    with project.database(queue=False):
        from daemon_app.models import Change, change

        if only_digest:
            row = change.newest()
            if row is None:
                raise Refusal(_("The log is empty."), code=Code.NOT_FOUND)
            terminal.say(f"{row.pk} {row.told()['at']} {row.digest}")
            return Code.OK
        rows = Change.objects.chosen(_asked(wanted))
        # What is written to a terminal shows itself how far it is.
        is_long = not terminal.is_terminal() and rows.count() >= change.PER_PIECE
        length = rows.count() if is_long else 0
        with (
            terminal.progress(_("Rows"), length, is_long=is_long) as told,
            terminal.output() as write,
        ):
            for text in change.lines(rows):
                write(text.encode())
                told(text.count("\n"))
    return Code.OK
