"""The process of one skill's run: `python -m daemon_app.skills NAME`.

Exit codes: 0 done; 1 done, and what it found needs a person; 64 there is no such skill; 70 it could
not do its work; 75 it made way before its end.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import django

if TYPE_CHECKING:
    import io

    from daemon_app.skills import Context, Result, Skill

STOPPED = 75


class Interrupted(BaseException):
    """Told to stop a second time: what does not look at its stop event is broken off."""


def main(words: list[str]) -> int:
    """Run the skill that `words` name, and return the exit code."""
    stop_event = threading.Event()
    heed_signals(stop_event)
    # Whatever the locale is: the output of a run is text in UTF-8.
    cast("io.TextIOWrapper", sys.stdout).reconfigure(encoding="utf-8", errors="backslashreplace")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bachweb.settings")
    try:
        django.setup()
        return run(words[0] if words else "", stop_event)
    except Interrupted:
        return STOPPED


def heed_signals(stop_event: threading.Event) -> None:
    """Let the first signal set `stop_event`, and each further one raise Interrupted."""

    def heed(_number: int, _frame: FrameType | None) -> None:
        if stop_event.is_set():
            raise Interrupted
        stop_event.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, heed)


def run(name: str, stop_event: threading.Event) -> int:
    """Run the skill `name`: its output goes to standard output, its end into the journal."""
    # Django is set up by now, and not before.
    from django.conf import settings  # noqa: PLC0415
    from django.utils import timezone, translation  # noqa: PLC0415
    from django.utils.translation import gettext as _t  # noqa: PLC0415

    from daemon_app import journal  # noqa: PLC0415
    from daemon_app.models import Policy  # noqa: PLC0415
    from daemon_app.skills import SKILLS, Context, load  # noqa: PLC0415
    from daemon_app.skills.skill import NO_SUCH_SKILL  # noqa: PLC0415

    translation.activate(settings.LANGUAGE_CODE)
    load()
    if name not in SKILLS:
        known = {"name": name, "known": ", ".join(SKILLS)}
        print(_t("There is no skill “%(name)s” here. Known: %(known)s.") % known)  # noqa: T201
        return NO_SUCH_SKILL
    now = timezone.now()

    def note(level: str, message: str, data: Mapping[str, Any]) -> None:
        journal.write(name, level, message, data, now=timezone.now())

    context = Context(name, now=now, policy=Policy.current(), stop_event=stop_event, journal=note)
    code, result = outcome(SKILLS[name](), context)
    context.journal(result.level, result.summary, result.data)
    # The sentence comes last, for that is the line that lists show.
    context.say(result.summary)
    return code


def outcome(skill: "Skill", context: "Context") -> "tuple[int, Result]":
    """Let `skill` do its work; return the exit code, and what is to be told."""
    from django.utils.translation import gettext as _t  # noqa: PLC0415

    from daemon_app.skills import Failure, Result, Stopped  # noqa: PLC0415
    from daemon_app.skills import skill as codes  # noqa: PLC0415

    try:
        result = skill.run(context)
    except (Stopped, Interrupted):
        return codes.STOPPED, Result(_t("Stopped before the end."))
    except Failure as failure:
        return codes.BROKEN, Result(str(failure), codes.ERROR)
    except Exception as error:  # noqa: BLE001 - whatever a skill does, its end is told
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        context.say(_where())
        return codes.BROKEN, Result(_t("It failed: %s") % _short(said), codes.ERROR)
    return codes.FOUND if result.level == codes.ERROR else codes.DONE, result


def _where() -> str:
    """Return the way to the error, without the parts of it that are ours."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    return "\n".join(f"{f.filename}:{f.lineno}: {f.name}: {f.line}" for f in frames[1:])


def _short(text: str, most: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
