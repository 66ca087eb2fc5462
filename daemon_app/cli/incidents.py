"""`bach daemon incidents`: what happened to the daemon itself."""

import click

from daemon_app.cli import clicks, project, terminal
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import gettext_noop, ngettext, pgettext
from daemon_app.cli.outcome import Code, Refusal
from daemon_app.cli.spared import serializers
from daemon_app.cli.times import Clock

JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
SHOWN = 50
LEVELS = {
    "info": (gettext_noop("note"), ""),
    "warn": (gettext_noop("warning"), "is-warn"),
    "error": (gettext_noop("error"), "is-fail"),
}


@click.group(
    cls=clicks.Group,
    invoke_without_command=True,
    help=_(
        "List what happened to the daemon itself and nobody has marked as seen yet.\n\n"
        "For example a clock that jumped, a machine that slept, a job that was switched off "
        "because its runs were lost again and again."
    ),
    examples=(
        ("bach daemon incidents", ""),
        ("bach daemon incidents --all", ""),
        ("bach daemon incidents seen 3", ""),
    ),
    short_help=_("List what happened to the daemon itself."),
)
@click.option("--all", "every", is_flag=True, help=_("Those that were seen, too."))
@JSON
@click.pass_context
def incidents(context: click.Context, every: bool, as_json: bool) -> int:
    """Show incidents, when no command about them follows."""
    if context.invoked_subcommand:
        return Code.OK
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app.models import Incident

        chosen = Incident.objects.all() if every else Incident.objects.unseen()
        found = list(chosen.order_by("-id")[:SHOWN])
        if as_json:
            terminal.say_json(list(serializers().IncidentSerializer(found, many=True).data))
            return Code.OK
        if not found:
            terminal.say(_("Nothing has happened.") if every else _("Nothing new has happened."))
            return Code.OK
        clock = Clock.here(timezone.now())
        rows = []
        for one in found:
            word, tone = LEVELS.get(one.level, (one.level, ""))
            tone = "" if one.acknowledged_at else tone
            rows.append(
                (
                    str(one.pk),
                    clock.moment(one.at),
                    (terminal.marked(_(word), tone), tone),
                    str(one),
                )
            )
        terminal.table(
            (
                pgettext("column", "ID"),
                clock.column(pgettext("column", "When")),
                pgettext("column", "Level"),
                pgettext("column", "What"),
            ),
            rows,
        )
    return Code.OK


@incidents.command(
    help=_("Mark incidents as seen, by their numbers; “all” means all there are."),
    examples=(
        ("bach daemon incidents seen 3 4", ""),
        ("bach daemon incidents seen all", ""),
    ),
    short_help=_("Mark incidents as seen."),
)
@click.argument("numbers", metavar=_("ID|all …"), nargs=-1, required=True)
@JSON
def seen(numbers: tuple[str, ...], as_json: bool) -> int:
    """Acknowledge incidents."""
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app.models import Incident

        if "all" in numbers:
            chosen = list(Incident.objects.unseen())
        else:
            known = [text for text in numbers if clicks.is_number(text)]
            chosen = list(Incident.objects.filter(pk__in=set(map(int, known))))
            if len(known) < len(numbers) or len(chosen) < len(set(map(int, known))):
                raise Refusal(
                    _("There is no such incident."),
                    _("All incidents: %(bach)s daemon incidents --all")
                    % {"bach": project.program()},
                    code=Code.NOT_FOUND,
                )
        now, who = timezone.now(), project.user()[:150]
        count = sum(one.acknowledge(by=who, now=now) for one in chosen)
        if as_json:
            for one in chosen:
                one.refresh_from_db()
            terminal.say_json(list(serializers().IncidentSerializer(chosen, many=True).data))
        else:
            said = ngettext(
                "%(n)s incident is marked as seen.", "%(n)s incidents are marked as seen.", count
            )
            terminal.say(said % {"n": count})
    return Code.OK
