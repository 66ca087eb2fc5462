"""`bach daemon policy` and `bach daemon pools`: what holds for all jobs."""

from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import project, terminal
from daemon_app.cli.clicks import Command, Group, WholeNumber
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import ngettext, pgettext
from daemon_app.cli.outcome import Code, Refusal
from daemon_app.cli.spared import serializers

if TYPE_CHECKING:
    from django.core.exceptions import ValidationError

    from daemon_app.models import Policy, Pool

JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))


@click.command(
    cls=Command,
    help=_(
        "Show the rules for all jobs, or change some.\n\nA job may keep less or more than they say."
        "\n\nAn empty address stands for the installation's own, empty quiet hours for none."
    ),
    examples=(
        ("bach daemon policy", ""),
        ("bach daemon policy --parallel 8 --keep-days 30", ""),
        ("bach daemon policy --quiet-hours 22:00-06:00 --idle-after-seconds 300", ""),
        ("bach daemon policy --ollama-url http://localhost:11434", ""),
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
@click.option("--gpu-service-url", metavar="URL", help=_("Where the GPU service answers."))
@click.option("--ollama-url", metavar="URL", help=_("Where Ollama answers."))
@click.option(
    "--slow-ms", type=WholeNumber(1, 60_000, 1000), help=_("A service that takes longer is slow.")
)
@click.option(
    "--vram-high-percent", type=WholeNumber(1, 100, 80), help=_("VRAM runs short beyond this.")
)
@click.option(
    "--vram-target-percent",
    type=WholeNumber(0, 100, 60),
    help=_("Models are unloaded until no more is used."),
)
@click.option(
    "--disk-low-gb", type=WholeNumber(0, 10**6, 10), help=_("The disk runs short below this.")
)
@click.option(
    "--idle-after-seconds",
    type=WholeNumber(1, 86_400, 120),
    help=_("The machine is idle after so long without anybody."),
)
@click.option(
    "--foreign-load-percent",
    type=WholeNumber(0, 100, 90),
    help=_("So much load of others counts as somebody; 0: none does."),
)
@click.option(
    "--watch-logins/--no-watch-logins",
    default=None,
    help=_("Whether people at this machine count."),
)
@click.option(
    "--watch-gpu/--no-watch-gpu",
    default=None,
    help=_("Whether other programs on the GPU count."),
)
@click.option(
    "--quiet-hours", metavar=_("TIMES"), help=_("When only jobs start that may do so at night.")
)
@click.option(
    "--config-folder",
    "config_folders",
    multiple=True,
    metavar=_("PATH"),
    help=_("Check the configuration in these folders; once for each."),
)
@click.option("--no-config-folders", is_flag=True, help=_("Check no folders."))
@JSON
def policy(as_json: bool, *, no_config_folders: bool, **wanted: Any) -> int:
    """Show the rules, after changing what was asked for."""
    with project.database(queue=False):
        from django.core.exceptions import ValidationError
        from django.utils import timezone

        from daemon_app.models import Policy

        rules = Policy.current()
        given = {name: value for name, value in wanted.items() if value not in (None, ())}
        if "config_folders" in given or no_config_folders:
            given["config_folders"] = [*wanted["config_folders"]]
        if given:
            if "parallel" in given:
                given["max_parallel"] = given.pop("parallel") or None
            if "foreign_load_percent" in given:
                given["foreign_load_percent"] = given["foreign_load_percent"] or None
            for name, value in given.items():
                setattr(rules, name, value)
            try:
                rules.store(now=timezone.now(), by=project.user()[:150])
            except ValidationError as error:
                raise _refused(error) from error
            rules = Policy.current()
            if "config_folders" in given and (missing := rules.missing_folders):
                terminal.note(
                    ngettext(
                        "This folder is not there, or may not be entered: %(folders)s.",
                        "These folders are not there, or may not be entered: %(folders)s.",
                        len(missing),
                    )
                    % {"folders": ", ".join(map(terminal.shown, missing))}
                )
        if as_json:
            terminal.say_json({**serializers().PolicySerializer(rules).data})
            return Code.OK
        terminal.table(
            (pgettext("column", "Rule"), pgettext("column", "Value")),
            _told(rules),
        )
    return Code.OK


def _told(rules: "Policy") -> list[tuple[str, str]]:
    from django.conf import settings

    yes = {True: _("yes"), False: _("no")}
    load = rules.foreign_load_percent
    return [
        (_("Runs at once"), str(rules.parallel)),
        (_("Keep runs for (days)"), str(rules.keep_days)),
        (_("Keep runs of each job"), str(rules.keep_runs)),
        (_("Keep output in all (MB)"), str(rules.keep_output_mb)),
        (_("GPU service"), rules.gpu_service_url or settings.GPU_SERVICE_URL),
        (_("Ollama"), rules.ollama_url or settings.OLLAMA_URL),
        (_("Slow from (ms)"), str(rules.slow_ms)),
        (_("VRAM runs short from (per cent)"), str(rules.vram_high_percent)),
        (_("VRAM is freed down to (per cent)"), str(rules.vram_target_percent)),
        (_("Disk runs short below (GB)"), str(rules.disk_low_gb)),
        (_("Idle after (seconds)"), str(rules.idle_after_seconds)),
        (
            _("Load of others counts from (per cent)"),
            _("not at all") if load is None else str(load),
        ),
        (_("People at this machine count"), yes[rules.watch_logins]),
        (_("Other programs on the GPU count"), yes[rules.watch_gpu]),
        (_("Quiet hours"), rules.quiet_hours or "–"),
        (_("Checked folders"), ", ".join(rules.config_folders) or "–"),
    ]


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
    with project.database(queue=False):
        from daemon_app import admission
        from daemon_app.models import Pool

        found = list(Pool.objects.all())
        room, _running = admission.current_room()
        if as_json:
            shared = {"taken": room.of_pool}
            terminal.say_json(
                list(serializers().PoolSerializer(found, many=True, context=shared).data)
            )
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
    with project.database(queue=False):
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
    with project.database(queue=False):
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

    room, _running = admission.current_room()
    told = serializers().PoolSerializer(pool, context={"taken": room.of_pool}).data
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
