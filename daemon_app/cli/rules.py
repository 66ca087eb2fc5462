"""`bach daemon policy` and `bach daemon pools`: what holds for all jobs."""

from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import project, terminal
from daemon_app.cli.clicks import Command, Group, WholeNumber
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import pgettext
from daemon_app.cli.outcome import Code, Refusal

if TYPE_CHECKING:
    from django.core.exceptions import ValidationError

    from daemon_app.models import Pool

JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))


@click.command(
    cls=Command,
    help=_(
        "Show the rules for all jobs, or change some.\n\nA job may keep less or more than they say."
    ),
    examples=(
        ("bach daemon policy", ""),
        ("bach daemon policy --parallel 8 --keep-days 30", ""),
    ),
    short_help=_("Show or change the rules for all jobs."),
)
@click.option("--parallel", type=WholeNumber(0, 1000, 4), help=_("Runs at once; 0: the default."))
@click.option("--keep-days", type=WholeNumber(1, 36_500, 90), help=_("Keep runs for so many days."))
@click.option(
    "--keep-runs", type=WholeNumber(1, 10**9, 10_000), help=_("Keep so many runs of each job.")
)
@click.option(
    "--keep-output-mb", type=WholeNumber(1, 10**9, 2048), help=_("Keep so much output in all.")
)
@JSON
def policy(as_json: bool, **wanted: int | None) -> int:
    """Show the rules, after changing what was asked for."""
    with project.database():
        from django.utils import timezone

        from daemon_app.api.serializers import PolicySerializer
        from daemon_app.models import Policy

        rules = Policy.current()
        given = {name: value for name, value in wanted.items() if value is not None}
        if given:
            if "parallel" in given:
                rules.max_parallel = given.pop("parallel") or None
            for name, value in given.items():
                setattr(rules, name, value)
            rules.store(now=timezone.now(), by=project.user()[:150])
            rules = Policy.current()
        if as_json:
            terminal.say_json({**PolicySerializer(rules).data})
            return Code.OK
        terminal.table(
            (pgettext("column", "Rule"), pgettext("column", "Value")),
            [
                (_("Runs at once"), str(rules.parallel)),
                (_("Keep runs for (days)"), str(rules.keep_days)),
                (_("Keep runs of each job"), str(rules.keep_runs)),
                (_("Keep output in all (MB)"), str(rules.keep_output_mb)),
            ],
        )
    return Code.OK


# ── Pools ────────────────────────────────────────────────────────────────────────────────────────
@click.group(
    cls=Group,
    invoke_without_command=True,
    help=_(
        "List the pools: things of which there is only so much.\n\n"
        "A job may take a weight of each; its runs wait until there is so much left."
    ),
    examples=(
        ("bach daemon pools", ""),
        ("bach daemon pools set gpu 1", ""),
        ("bach daemon pools --json", ""),
    ),
    short_help=_("List, set and remove pools."),
)
@JSON
@click.pass_context
def pools(context: click.Context, as_json: bool) -> int:
    """Show every pool, when no command about pools follows."""
    if context.invoked_subcommand:
        return Code.OK
    with project.database():
        from daemon_app import admission
        from daemon_app.api.serializers import PoolSerializer
        from daemon_app.models import Pool

        found = list(Pool.objects.all())
        room, _running = admission.current_room()
        if as_json:
            shared = {"taken": room.of_pool}
            terminal.say_json(list(PoolSerializer(found, many=True, context=shared).data))
            return Code.OK
        if not found:
            terminal.say(
                _("No pools yet. Make one: %(bach)s daemon pools set gpu 1")
                % {"bach": project.program()}
            )
            return Code.OK
        terminal.table(
            (
                pgettext("column", "Pool"),
                pgettext("column", "Size"),
                pgettext("column", "Taken"),
                pgettext("column", "Description"),
            ),
            [
                (pool.name, str(pool.size), str(room.of_pool[pool.name]), pool.description)
                for pool in found
            ],
        )
    return Code.OK


@pools.command(
    "set",
    help=_(
        "Create a pool, or change its size.\n\n"
        "It may become smaller than what a job needs; that job is named, and its runs wait."
    ),
    examples=(
        ("bach daemon pools set gpu 1", ""),
        (_('bach daemon pools set gpu 2 --description "Both cards"'), ""),
    ),
    short_help=_("Create a pool, or change its size."),
)
@click.argument("name", metavar=_("NAME"))
@click.argument("size", metavar=_("SIZE"), type=WholeNumber(1, 10_000, 1))
@click.option("--description", metavar=_("TEXT"), help=_("What it stands for."))
@JSON
def set_(name: str, size: int, description: str | None, as_json: bool) -> int:
    """Store a pool."""
    with project.database():
        from django.core.exceptions import ValidationError
        from django.utils import timezone

        from daemon_app.models import Pool

        pool = Pool.objects.filter(name=name.strip().lower()).first() or Pool(name=name)
        pool.size = size
        if description is not None:
            pool.description = description
        try:
            pool.store(now=timezone.now(), by=project.user()[:150])
        except ValidationError as error:
            raise _refused(error) from error
        if as_json:
            terminal.say_json(_pool_as_json(pool))
            return Code.OK
        facts = {"pool": pool.name, "size": pool.size}
        terminal.say(_("Pool “%(pool)s” has the size %(size)s.") % facts)
        _say_too_big(pool.name, pool.size)
    return Code.OK


@pools.command(
    "remove",
    help=_("Remove a pool. Jobs that need it are named, and their runs wait."),
    examples=(("bach daemon pools remove gpu", ""),),
    short_help=_("Remove a pool."),
)
@click.argument("name", metavar=_("NAME"))
@JSON
def remove(name: str, as_json: bool) -> int:
    """Delete a pool."""
    with project.database():
        from daemon_app.models import Pool

        pool = Pool.objects.filter(name=name.strip().lower()).first()
        if pool is None:
            raise Refusal(
                _("There is no pool “%(name)s”.") % {"name": terminal.shown(name)},
                _("All pools: %(bach)s daemon pools") % {"bach": project.program()},
                code=Code.NOT_FOUND,
            )
        pool.remove()
        if as_json:
            too_big = _too_big(pool.name, 0)
            terminal.say_json({"name": pool.name, "impossible_jobs": too_big})
            return Code.OK
        terminal.say(_("Pool “%(pool)s” is removed.") % {"pool": pool.name})
        _say_too_big(pool.name, 0)
    return Code.OK


def _refused(error: "ValidationError") -> Refusal:
    return Refusal(" ".join(error.messages), code=Code.USAGE)


def _pool_as_json(pool: "Pool") -> dict[str, Any]:
    from daemon_app import admission
    from daemon_app.api.serializers import PoolSerializer

    room, _running = admission.current_room()
    told = PoolSerializer(pool, context={"taken": room.of_pool}).data
    return {**told, "impossible_jobs": _too_big(pool.name, pool.size)}


def _too_big(name: str, size: int) -> list[dict[str, Any]]:
    from daemon_app.models import Job

    return [
        {"id": job.pk, "name": job.name, "need": job.pools[name]}
        for job in Job.objects.too_big(name, size)
    ]


def _say_too_big(name: str, size: int) -> None:
    names = [terminal.shown(each["name"]) for each in _too_big(name, size)]
    if names:
        terminal.note(_("These jobs can't start any more: %(names)s") % {"names": ", ".join(names)})
