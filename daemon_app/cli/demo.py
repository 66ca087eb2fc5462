"""`bach demo`: stand-ins for the GPU service and Ollama, and what tells them how to behave."""

import errno
import json
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import project, terminal
from daemon_app.cli.clicks import Group, WholeNumber
from daemon_app.cli.language import gettext as _
from daemon_app.cli.outcome import Code, Refusal

if TYPE_CHECKING:
    from daemon_app import demo as doubles

PATIENCE = 10.0  # seconds for a double to answer
# One less than there are: the port above is for steering.
PORTS = (1, 65_534)
# What daemon_app.demo has, named here because `bach --help` must not wait for an HTTP server.
DOUBLES = {"gpu-service": 17_803, "ollama": 11_434}
MODES = (
    *("ok", "slow", "hang", "drip", "garbage", "wrong", "bomb", "nest", "gzip", "redirect"),
    *("error", "nohttp", "down"),
)
ACTIONS = ("load", "unload", "use", "release")
MOST_MB = 10_000_000


@click.group(
    cls=Group,
    help=_(
        "Stand-ins for the services that the daemon watches, to try things out without a GPU.\n\n"
        "They answer as the real ones do, on this machine alone, and can be told to be busy, "
        "slow, wrong or gone."
    ),
    examples=(
        ("bach demo gpu-service", ""),
        ("bach demo ollama", ""),
        ("bach demo control gpu-service load sdxl --vram 6000 --in-use", ""),
        ("bach demo control gpu-service down", ""),
    ),
    short_help=_("Stand-ins for the GPU service and Ollama, to try things out."),
)
def demo() -> None:
    """Hold the commands about the stand-ins."""


@demo.command(
    "gpu-service",
    help=_(
        "Play a GPU service, until Ctrl+C.\n\n"
        "It keeps the books of one: models, their VRAM, and which are in use. One port further "
        "it can be steered, see “bach demo control”."
    ),
    examples=(
        ("bach demo gpu-service", ""),
        ("bach demo gpu-service --port 17810 --total-vram 8000", ""),
    ),
    short_help=_("Play a GPU service, until Ctrl+C."),
)
@click.option(
    "--port",
    type=WholeNumber(*PORTS, 17810),
    default=DOUBLES["gpu-service"],
    show_default=True,
    help=_("Listen at this port."),
)
@click.option(
    "--total-vram",
    "total_mb",
    type=WholeNumber(1, MOST_MB, 8000),
    default=24_576,
    show_default=True,
    help=_("So many MB of VRAM."),
)
def gpu_service(port: int, total_mb: int) -> int:
    """Run the double of the GPU service."""
    from daemon_app import demo as doubles

    return _run("gpu-service", doubles.GpuService(port, total_mb=float(total_mb)))


@demo.command(
    help=_(
        "Play an Ollama, until Ctrl+C.\n\n"
        "It lists models, loads and unloads them, and takes its time to answer. One port further "
        "it can be steered, see “bach demo control”."
    ),
    examples=(
        ("bach demo ollama", ""),
        ("bach demo ollama --port 11500", ""),
    ),
    short_help=_("Play an Ollama, until Ctrl+C."),
)
@click.option(
    "--port",
    type=WholeNumber(*PORTS, 11500),
    default=DOUBLES["ollama"],
    show_default=True,
    help=_("Listen at this port."),
)
def ollama(port: int) -> int:
    """Run the double of Ollama."""
    from daemon_app import demo as doubles

    return _run("ollama", doubles.Ollama(port))


def _run(name: str, double: "doubles.Double") -> int:
    """Serve until Ctrl+C, saying first how to try it."""
    from daemon_app import demo as doubles

    wished = double.port
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    try:
        double.start()
    except doubles.PortTakenError as error:
        why = (
            _("Port %(port)s is not for everybody; those from 1024 on are.")
            if error.errno == errno.EACCES
            else _("Port %(port)s is used by another program.")
        )
        raise Refusal(
            why % {"port": error.port},
            _("Choose another: %(bach)s demo %(name)s --port %(port)s")
            % {"bach": project.program(), "name": name, "port": max(wished % 60_000, 1024) + 10},
            code=Code.USAGE,
        ) from error
    double.told = terminal.say
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        _say_how_to_try(name, double)
        ended.wait()
    finally:
        double.close()
    return Code.OK


def _say_how_to_try(name: str, double: "doubles.Double") -> None:
    bach, at = project.program(), ""
    terminal.say(_("It answers at %(url)s") % {"url": double.url})
    if double.port != double.default_port:
        at = f" --port {double.port}"
        terminal.say(
            _("Let the daemon look here: %(setting)s=%(url)s %(bach)s up")
            % {"setting": double.setting, "url": double.url, "bach": bach}
        )
    model = "sdxl" if name == "gpu-service" else "llama3.2"
    control = f"{bach} demo control {name}"
    terminal.say(_("In another terminal:"))
    tries = (
        (f"load {model} --vram 6000", _("a model is loaded")),
        (f"use {model}", _("somebody uses it, so nothing is idle")),
        (f"release {model}", _("nobody does any more")),
        ("hang", _("it takes requests and says nothing")),
        ("down", _("it is gone")),
        ("ok", _("everything is well again")),
    )
    width = max(len(f"{control} {line}{at}") for line, _purpose in tries)
    for line, purpose in tries:
        terminal.say(f"  {f'{control} {line}{at}':<{width}}  {purpose}")
    terminal.say(_("End: Ctrl+C"))


# ── Steering ─────────────────────────────────────────────────────────────────────────────────────
@demo.command(
    help=_(
        "Tell a stand-in that is running what to do.\n\n"
        "Models: load, unload, use (a generation begins), release (it ends).\n\n"
        "Behaviour: ok, slow, hang, drip (a byte now and then), garbage, wrong (JSON of other "
        "types), bomb (a gigabyte), nest (too deep), gzip (a gigabyte, packed), redirect, error, "
        "nohttp, down (the port is closed).\n\n"
        "Without either it shows how things stand."
    ),
    examples=(
        ("bach demo control gpu-service load sdxl --vram 6000 --in-use", ""),
        ("bach demo control gpu-service use sdxl --seconds 20", _("a generation of 20 s")),
        ("bach demo control gpu-service hang --path /api/health/vram", _("only there")),
        ("bach demo control ollama down --seconds 60", _("back in a minute")),
        ("bach demo control ollama error --status 429", ""),
        ("bach demo control ollama ok", ""),
    ),
    short_help=_("Tell a stand-in that is running what to do."),
)
@click.argument("double", type=click.Choice([*DOUBLES]))
@click.argument("what", type=click.Choice([*ACTIONS, *MODES]), metavar=_("[WHAT]"), required=False)
@click.argument("model", metavar=_("[MODEL]"), required=False)
@click.option("--port", type=WholeNumber(*PORTS, 17810), help=_("Where it listens."))
@click.option("--backend", metavar=_("NAME"), help=_("The backend of a model to load."))
@click.option("--vram", type=WholeNumber(0, MOST_MB, 6000), help=_("MB of VRAM it takes."))
@click.option("--in-use", is_flag=True, help=_("It is being used."))
@click.option("--unused", type=WholeNumber(0, 10**8, 600), help=_("Last used so many seconds ago."))
@click.option("--seconds", type=WholeNumber(0, 10**6, 20), help=_("How long, or how slow."))
@click.option("--path", metavar=_("TEXT"), help=_("Only for addresses that begin so."))
@click.option("--status", type=WholeNumber(400, 599, 503), help=_("Which error."))
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
def control(  # noqa: PLR0913, PLR0917 - one parameter for each option
    double: str,
    what: str | None,
    model: str | None,
    port: int | None,
    backend: str | None,
    vram: int | None,
    in_use: bool,
    unused: int | None,
    seconds: int | None,
    path: str | None,
    status: int | None,
    as_json: bool,
) -> int:
    """Send what was asked for, and show the state after it."""
    if what in ACTIONS and not model:
        raise click.BadParameter(
            _("Which model? For example: %(bach)s demo control %(double)s %(what)s sdxl")
            % {"bach": project.program(), "double": double, "what": what},
            param_hint=_("[MODEL]"),
        )
    facts = {
        "model": model,
        "backend": backend,
        "vram_mb": vram,
        "in_use": 1 if in_use else None,
        "unused": unused,
        "seconds": seconds,
        "path": path,
        "status": status,
    }
    given = {name: value for name, value in facts.items() if value is not None}
    state = _told(double, port or DOUBLES[double], what, given)
    if as_json:
        terminal.say_json(state)
        return Code.OK
    terminal.say(_("Behaviour: %(mode)s") % {"mode": state["mode"]})
    loaded = state.get("loaded_models", state.get("models", []))
    if not loaded:
        terminal.say(_("No model is loaded."))
        return Code.OK
    calls = state.get("calls", {})
    terminal.table(
        (_("Model"), _("MB of VRAM"), _("In use")),
        [
            (
                each["model"],
                f"{each.get('vram_mb', each.get('size_vram', 0) / 1_048_576):g}",
                str(each.get("in_use", calls.get(each["model"], 0))),
            )
            for each in loaded
        ],
    )
    return Code.OK


def _told(double: str, port: int, what: str | None, facts: dict[str, Any]) -> dict[str, Any]:
    """Send it to the port above, which stays open when the other is closed; return the state."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port + 1, timeout=PATIENCE)
    try:
        body = json.dumps(facts) if what else None
        connection.request("POST" if what else "GET", f"/demo/{what or ''}".rstrip("/"), body)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        if not isinstance(said, dict):
            raise ValueError(said)  # noqa: TRY004, TRY301 - it is no double that answers
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Refusal(
            _("At port %(port)s no stand-in listens.") % {"port": port},
            _("Start it: %(bach)s demo %(double)s --port %(port)s")
            % {"bach": project.program(), "double": double, "port": port},
            code=Code.NOT_RUNNING,
        ) from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise _refusal(said, facts)
    return said


def _refusal(said: dict[str, Any], facts: dict[str, Any]) -> click.ClickException:
    """Return why the double won't, in the words of the command line."""
    model = terminal.shown(str(facts.get("model", "")))
    why = {
        "no_model": _("The model “%(model)s” is not loaded."),
        "no_vram": _("The model “%(model)s” does not fit into what is left of the VRAM."),
        "not_in_use": _("Nobody uses the model “%(model)s”."),
        "in_use": _("The model “%(model)s” is in use."),
    }.get(str(said.get("code")))
    if why is None:
        return Refusal(terminal.shown(str(said.get("error", said))), code=Code.USAGE)
    code = Code.NOT_FOUND if said["code"] == "no_model" else Code.FAILED
    return Refusal(why % {"model": model}, code=code)
