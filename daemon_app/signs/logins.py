"""People who are logged in at this machine, or from afar by a terminal, and do something.

systemd-logind knows the sessions. A terminal's time of access is that of the last key; a desktop
tells logind itself when nobody touches it. Where there is no logind there is no such sign.
"""

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from daemon_app import processes
from daemon_app.signs import SIGNS, Scene, Sign
from daemon_app.signs.stamps import Stamps

SESSIONS: Final = Path("/run/systemd/sessions")
DEVICES: Final = Path("/dev")
GRAPHICAL: Final = frozenset({"x11", "wayland", "mir"})
ASKING_TAKES: Final = 2.0  # seconds at most
MOST_SESSIONS: Final = 200
PROPERTIES: Final = ("Id", "IdleHint", "LockedHint", "IdleSinceHintMonotonic")


@dataclass(frozen=True, slots=True)
class Desktop:
    """What logind says of a graphical session: since when nobody touches it, None while used."""

    idle_since: float | None  # on the monotonic clock


# By session, what a desktop says; None when it does not answer.
Ask = Callable[[Sequence[str]], Mapping[str, Desktop] | None]


@SIGNS.register("logins")
class Logins:
    """Local and remote sessions of people."""

    is_person: ClassVar[bool] = True
    quick: ClassVar[bool] = False
    often: ClassVar[float | None] = 2.0

    def __init__(
        self, sessions: Path = SESSIONS, devices: Path = DEVICES, ask: Ask | None = None
    ) -> None:
        self._sessions = sessions
        self._devices = devices
        self._ask = ask or ask_logind
        self._stamps = Stamps()
        self._lasts: dict[str, float] = {}  # of desktops, by session

    def look(self, scene: Scene) -> Sign | None:
        """Return who used a terminal or a desktop last; None where there is no logind."""
        if not scene.rules.watch_logins:
            return None
        try:
            names = sorted(each.name for each in self._sessions.iterdir())[:MOST_SESSIONS]
        except OSError:
            return None
        people = {name: told for name in names if (told := self._person(name))}
        desktops = [name for name, told in people.items() if told.get("TYPE") in GRAPHICAL]
        stamps = {
            name: stamp
            for name, told in people.items()
            if name not in desktops and (stamp := self._stamp(told)) is not None
        }
        lasts = self._stamps.look(stamps, scene.wall, scene.mono)
        answers = self._ask(desktops) if desktops else {}
        if answers is not None:
            for name in desktops:
                lasts[name] = self._of_desktop(name, answers.get(name), scene.mono)
        self._lasts = {name: lasts[name] for name in desktops if name in lasts}
        recent = {
            n: last for n, last in lasts.items() if scene.mono - last < scene.rules.idle_after
        }
        users = {
            people[name].get("USER", "?")
            for name, last in lasts.items()
            if scene.mono - last < scene.rules.window
        }
        last = max(lasts.values(), default=None)
        if recent:
            whose = [people[n].get("USER", "?") for n in sorted(recent, key=lambda n: -recent[n])]
            facts = {"who": ", ".join(dict.fromkeys(whose))[:200]}
            return Sign("logins", True, "sign_logins", facts, last, len(users))
        if answers is None:
            return Sign("logins", None, "sign_logins_unknown", {}, last, len(users))
        return Sign("logins", False, last=last, users=len(users))

    def _of_desktop(self, name: str, answer: Desktop | None, mono: float) -> float:
        """Return when a desktop was last used."""
        if answer is None or answer.idle_since is None:
            return mono
        return max(min(answer.idle_since, mono), self._lasts.get(name, float("-inf")))

    def _person(self, name: str) -> dict[str, str] | None:
        """Return what logind noted of a session, None when it is not one of a person."""
        if name.endswith(".ref"):
            return None
        try:
            lines = (self._sessions / name).read_text(errors="replace").splitlines()
        except OSError:
            return None
        told = {key: value for key, _equals, value in (line.partition("=") for line in lines)}
        is_person = told.get("CLASS", "user").startswith("user")
        return told if is_person and told.get("STATE") != "closing" else None

    def _stamp(self, told: Mapping[str, str]) -> float | None:
        """Return when the session's terminal was last typed into; None where there is none."""
        terminals = [told["TTY"]] if told.get("TTY") else _terminals(told.get("LEADER", ""))
        stamps = []
        for terminal in terminals:
            with suppress(OSError):
                stamps.append((self._devices / terminal).stat().st_atime)
        return max(stamps, default=None)


def ask_logind(sessions: Sequence[str]) -> Mapping[str, Desktop] | None:
    """Ask logind for these sessions; None when it does not answer in time."""
    program = shutil.which("loginctl")
    if program is None:
        return None
    # One option each: loginctl takes no list.
    wanted = [f"--property={name}" for name in PROPERTIES]
    try:
        done = subprocess.run(
            [program, "show-session", *wanted, "--", *sessions],
            capture_output=True,
            timeout=ASKING_TAKES,
            check=False,
            text=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    answers = {}
    for block in done.stdout.split("\n\n"):
        told = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        since = told.get("IdleSinceHintMonotonic", "")
        if told.get("Id"):
            is_left = "yes" in {told.get("IdleHint"), told.get("LockedHint")}
            at = int(since) / 1_000_000 if since.isdecimal() else 0.0
            answers[told["Id"]] = Desktop(at if is_left else None)
    return answers if done.returncode == 0 else None


def _terminals(leader: str) -> list[str]:
    """Return the terminals below a session's first process: sshd does not name its own."""
    if not leader.isdecimal():
        return []
    found = set()
    for each in processes.descendants(int(leader)):
        try:
            line = Path(f"/proc/{each.pid}/stat").read_bytes()
        except OSError:
            continue
        number = int(line[line.rfind(b")") + 2 :].split()[4])
        major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
        if 136 <= major <= 143:  # <linux/major.h>: UNIX98_PTY_SLAVE_MAJOR and its seven sisters
            found.add(f"pts/{minor + (major - 136) * 256}")
    return sorted(found)
