"""What can be said of a command before it runs: who runs it, where, and what it will find.

Nothing is executed, and of a file only the first line is read. What the shell knows only while it
runs is passed over: better no word than a wrong one. Nothing said here keeps anybody from saving.
"""

import os
import pwd
import re
import shlex
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from django.utils.translation import gettext_lazy as _

from daemon_app import runner, shellwords
from daemon_app.shellwords import Command, UnclosedError, Word

SHELL: Final = "/bin/sh"
MOST: Final = 12  # programs that are looked for
MOST_FOLDERS: Final = 64  # of a PATH
LONGEST_PATH: Final = 4096
FIRST_LINE: Final = 256  # bytes
PATIENCE: Final = 1.5  # seconds; a network folder may never answer
# So many may wait for folders that do not answer; then nothing is looked at until they do.
AT_ONCE: Final = threading.BoundedSemaphore(6)

BUILT_IN: Final = frozenset(
    (  # noqa: SIM905 - forty lines otherwise
        ". : [ alias bg break cd command continue echo eval exec exit export false fc fg getopts "
        "hash jobs kill local printf pwd read readonly return set shift test times trap true type "
        "ulimit umask unalias unset wait"
    ).split()
)
OF_BASH: Final = frozenset(
    (  # noqa: SIM905 - as above
        "[[ builtin caller compgen complete declare dirs disown enable history let logout mapfile "
        "popd pushd readarray shopt source suspend typeset"
    ).split()
)
STRICT_SHELLS: Final = frozenset({"dash", "busybox", "ash"})
# After these stands the program that is meant.
BEFORE: Final = frozenset(
    {"command", "env", "exec", "nice", "nohup", "setsid", "sudo", "time", "timeout", "xargs"}
)
# What is named after them is read by them, unless an option comes first that says otherwise.
INTERPRETERS: Final = re.compile(
    r"python[0-9.]*|pypy3?|node|perl|ruby|php|Rscript|lua|sh|bash|dash|zsh|ksh|pwsh"
)
HARMLESS: Final = re.compile(r"-[uBEIOsexwW]+")
# Whoever has run one of these may find other programs afterwards.
CHANGES_ALL: Final = frozenset({".", "source", "eval", "alias", "unalias", "trap"})
SETTING: Final = frozenset({"export", "readonly", "local"})
OPERATORS: Final = re.compile(r"\|\|?|&&?|;|[0-9]*(?:>>?|<)(?:&[0-9-])?")
# Where programs often are although no run looks there.
ELSEWHERE: Final = (
    *("~/.local/bin", "~/bin", "~/.cargo/bin", "~/go/bin", "~/.npm-global/bin", "/usr/local/bin"),
    *("/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin", "/snap/bin"),
    *("/opt/homebrew/bin", "/usr/local/cuda/bin"),
)

SENTENCES: Final = {
    "found": "",
    "own_python": _("the daemon's own Python"),
    "built_in": _("built into the shell"),
    "function": _("defined in the command itself"),
    "open": _("decided only while it runs"),
    "no_password": _("Nobody can type a password in a run: sudo works where it needs none."),
    "not_found": _("It is in none of the folders of PATH. Install it, or give its whole path."),
    "elsewhere": _("A run's PATH does not lead there: write %(path)s."),
    "no_file": _("There is no file %(path)s at the moment."),
    "no_way": _("%(user)s may not see what is at %(path)s."),
    "is_folder": _("%(path)s is a folder, not a program."),
    "not_executable": _("It may not be executed. This allows it: chmod +x %(path)s"),
    "no_interpreter": _("Its first line asks for %(program)s, which is not there."),
    "windows_line": _("Its first line ends as on Windows; save it with Unix line ends."),
    "no_first_line": _("It does not say what executes it: begin it with a line like #!/bin/sh."),
    "of_bash": _("This belongs to bash; %(shell)s here is %(name)s, which does not know it."),
    "source": _("This belongs to bash; in %(shell)s write a dot instead: . file"),
    "no_script": _("It is to read %(path)s, which is not there at the moment."),
    "unreadable": _("It is to read %(path)s, which %(user)s may not read."),
    "not_set": _("$%(name)s is not set in a run."),
    "unclosed": _("A quotation mark or bracket is opened and not closed."),
    "needs_shell": _("Only the shell understands this; switch on “Run by the shell”."),
    "no_folder": _("There is no folder %(path)s at the moment; a run could not begin."),
    "not_there": _("There is no folder %(path)s at the moment."),
    "no_entry": _("%(user)s may not enter the folder %(path)s."),
    "no_user": _("There is nobody called %(name)s here, so no such home folder."),
    "silent": _("The folder does not answer; nothing can be said of what is in it."),
}
WARNINGS: Final = frozenset(SENTENCES) - {
    *("found", "own_python", "built_in", "function", "open", "no_password"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one word: where it leads, and what is wrong with that."""

    code: str
    what: str = ""  # as it was typed
    path: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def level(self) -> str:
        """Return "ok", "note" or "warn"."""
        if self.code in WARNINGS:
            return "warn"
        return "note" if self.code in {"open", "no_password"} else "ok"

    @property
    def sentence(self) -> str:
        """Return it in words in the current language; "" where the path says it all."""
        return str(SENTENCES[self.code]) % self.facts


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of one command."""

    user: str
    folder: str
    shell: str  # "" without one
    findings: tuple[Finding, ...]
    is_empty: bool = False

    @property
    def remarks(self) -> list[Finding]:
        """What there is to look at, or to know."""
        return [finding for finding in self.findings if finding.level != "ok"]

    @property
    def fine(self) -> list[Finding]:
        """What is as it should be."""
        return [finding for finding in self.findings if finding.level == "ok"]

    @property
    def warnings(self) -> int:
        """How many findings are warnings."""
        return sum(finding.level == "warn" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to be run, as it stands in a form: nothing of it needs to be right."""

    command: str = ""
    use_shell: bool = True
    script_path: str = ""
    arguments: str = ""
    working_directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


def look(wanted: Wanted) -> Report:
    """Return what can be said of a command.

    Folders of other machines may never answer: a thread asks, and we wait for a moment only.
    """
    user = _user()
    folder = _expanded(wanted.working_directory.strip() or "~")
    shell = SHELL if wanted.use_shell and not wanted.script_path.strip() else ""
    if not wanted.command.strip() and not wanted.script_path.strip():
        return Report(user, folder, shell, (), is_empty=True)
    found: list[Finding] = []
    told = threading.Event()

    def ask() -> None:
        try:
            found.extend(_Look(wanted, user, folder).findings())
            told.set()
        finally:
            AT_ONCE.release()

    if AT_ONCE.acquire(blocking=False):
        threading.Thread(target=ask, name="preflight", daemon=True).start()
        told.wait(PATIENCE)
    findings = tuple(found) if told.is_set() else (Finding("silent", path=folder),)
    return Report(user, folder, shell, findings)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


class _Look:
    """One look at everything a command names."""

    def __init__(self, wanted: Wanted, user: str, folder: str) -> None:
        self.wanted = wanted
        self.user = user
        self.folder = folder
        parameters = {f"BACH_PARAM_{k.upper()}": v for k, v in wanted.parameters.items()}
        self.variables = {**runner.inherited(), **wanted.environment, **parameters, "PWD": folder}
        self.path = self.variables.get("PATH", os.defpath)
        # Whether programs are where PATH says: nothing before has changed what is found.
        self.is_sure = True
        self.seen: set[str] = set()
        self.plain: list[str] = []  # built-in ones
        self.changing: set[str] = set()  # variables whose value depends on the way

    def findings(self) -> list[Finding]:
        """Return all there is to say, in the order of the command."""
        found = list(self._of_folder())
        try:
            found += self._of_script() if self.wanted.script_path.strip() else self._of_command()
        except UnclosedError as error:
            return [*found, Finding("unclosed", str(error))]
        if self.plain:
            found.append(Finding("built_in", ", ".join(self.plain)))
        return found

    # ── The folder ───────────────────────────────────────────────────────────────────────────────
    def _of_folder(self) -> Iterator[Finding]:
        if self.folder.startswith("~"):
            name = self.folder[1:].partition("/")[0]
            yield Finding("no_user", self.folder, facts={"name": name})
        elif self.folder.startswith("/"):  # the form itself says that it must
            yield from self._enters(self.folder, "no_folder", self.wanted.working_directory.strip())

    def _enters(self, folder: str, missing: str, what: str) -> Iterator[Finding]:
        facts = {"path": folder, "user": self.user}
        if not _is_path(folder) or not os.path.isdir(folder):  # noqa: PTH112 - strings all along
            yield Finding(missing, what or folder, facts=facts)
        elif not os.access(folder, os.X_OK):
            yield Finding("no_entry", what or folder, facts=facts)

    # ── Without the shell ────────────────────────────────────────────────────────────────────────
    def _of_script(self) -> Iterator[Finding]:
        typed = self.wanted.script_path.strip()
        path = os.path.join(self.folder, _expanded(typed))  # noqa: PTH118
        if path.endswith(".py"):
            yield self._read_by("", typed, path) or Finding("own_python", typed, path)
        else:
            yield self._of_file(typed, path, by_shell=False)

    def _of_command(self) -> Iterator[Finding]:
        line = f"{self.wanted.command} {self.wanted.arguments}".strip().replace("\r\n", "\n")
        if self.wanted.use_shell:
            yield from self._of_line(line)
            return
        try:
            words = shlex.split(line)
        except ValueError:
            raise UnclosedError from None
        if not words:
            return
        if words[0] in {"python", "python3"}:
            yield Finding("own_python", words[0], sys.executable)
        else:
            yield self._program(words[0], words[0], self.folder, by_shell=False)
        sign = next(filter(OPERATORS.fullmatch, words), "") or self._replaced(line)
        if sign:
            yield Finding("needs_shell", sign)

    @staticmethod
    def _replaced(line: str) -> str:
        """Return the first word in which the shell would replace a variable or a ~; "" for none."""
        for command in shellwords.read(line).commands[:1]:
            for word in command.words:
                first = word.pieces[0] if word.pieces else None
                tilde = first and not first.quoted and re.match(r"~[\w-]*(?:/|$)", first.text)
                if tilde or any(piece.kind != "text" for piece in word.pieces):
                    return word.typed
        return ""

    # ── By the shell ─────────────────────────────────────────────────────────────────────────────
    def _of_line(self, line: str) -> Iterator[Finding]:
        script = shellwords.read(line)
        self.changing = _assigned_twice(script.commands) | script.loops
        folders: dict[tuple[int, ...], str | None] = {(): self.folder}
        for command in script.commands:
            if not command.words:
                self._assign(command.assigned)
                continue
            here = next(
                folders[command.scope[:size]]
                for size in range(len(command.scope), -1, -1)
                if command.scope[:size] in folders
            )
            name = command.words[0].plain
            if name == "cd":
                yield from self._moves(command, here, folders)
            if name in SETTING:
                self._assign(_set_by(command))
            if name in CHANGES_ALL:
                self.is_sure = False
            yield from self._of_words(command, here, script.functions)

    def _assign(self, assigned: tuple[tuple[str, Word], ...]) -> None:
        for name, word in assigned:
            value = None if name in self.changing else word.expanded(self.variables, self._home)
            if name == "PATH":
                self.path, self.is_sure = value or self.path, self.is_sure and value is not None
            if value is None:
                self.variables.pop(name, None)
                self.changing.add(name)
            else:
                self.variables[name] = value

    def _moves(
        self, command: Command, here: str | None, folders: dict[tuple[int, ...], str | None]
    ) -> Iterator[Finding]:
        target = None
        if len(command.words) == 1:
            target = self.variables.get("HOME")
        elif len(command.words) == 2:
            target = command.words[1].expanded(self.variables, self._home)
        if target is None or target == "-" or (here is None and not target.startswith("/")):
            folders[command.scope] = None
            return
        there = os.path.normpath(os.path.join(here or "", target))  # noqa: PTH118
        folders[command.scope] = there
        yield from self._enters(there, "not_there", f"cd {command.words[-1].typed}")

    def _of_words(
        self, command: Command, here: str | None, functions: set[str]
    ) -> Iterator[Finding]:
        """Return what is to be said of a command, and of the one that it begins."""
        is_sure = self.is_sure and not any(name == "PATH" for name, _word in command.assigned)
        words = list(command.words)
        while words and len(self.seen) < MOST:
            word = words.pop(0)
            is_test = word.plain in {"[", "[["}
            name = word.plain if is_test else word.expanded(self.variables, self._home)
            if word.typed not in self.seen:
                self.seen.add(word.typed)
                yield from self._of_word(word, name, here, functions, is_sure=is_sure)
            base = os.path.basename(name or "")  # noqa: PTH119
            if INTERPRETERS.fullmatch(base):
                yield from self._read_after(word, words, here)
            if base not in BEFORE:
                return
            words = _behind(base, words)

    def _of_word(
        self, word: Word, name: str | None, here: str | None, functions: set[str], *, is_sure: bool
    ) -> Iterator[Finding]:
        if name is None:
            unset = self._unset(word)
            if unset:
                yield Finding("not_set", word.typed, facts={"name": unset})
            else:
                yield Finding("open", _short(word.typed))
        elif name in functions:
            yield Finding("function", word.typed)
        elif name in BUILT_IN:
            self.plain.append(word.typed)
        elif name in OF_BASH:
            yield from self._of_bash(word.typed)
        elif not name:
            return
        elif "/" in name and not name.startswith("/") and here is None:
            yield Finding("open", _short(word.typed))
        else:
            found = self._program(word.typed, name, here or "/", by_shell=True)
            lost = {"not_found", "elsewhere"}
            yield Finding("open", word.typed) if found.code in lost and not is_sure else found
            if name == "sudo" and found.code == "found":
                yield Finding("no_password", "sudo")

    def _of_bash(self, typed: str) -> Iterator[Finding]:
        name = os.path.basename(os.path.realpath(SHELL))  # noqa: PTH119
        if name not in STRICT_SHELLS:
            self.plain.append(typed)
            return
        code = "source" if typed == "source" else "of_bash"
        yield Finding(code, typed, facts={"shell": SHELL, "name": name})

    def _unset(self, word: Word) -> str:
        """Return a variable in a word that nothing sets; "" for none."""
        for name in word.variables:
            is_ours = name.startswith("BACH_") and not name.startswith("BACH_PARAM_")
            if name not in self.variables and name not in self.changing and not is_ours:
                return name if self.is_sure else ""
        return ""

    def _read_after(self, program: Word, words: list[Word], here: str | None) -> Iterator[Finding]:
        """Look at the script that an interpreter is given, when it is given one by name."""
        for word in words:
            name = word.expanded(self.variables, self._home)
            if name is None or not name:
                return
            if name.startswith("-") and HARMLESS.fullmatch(name):
                continue
            if name.startswith("-") or (here is None and not name.startswith("/")):
                return
            path = os.path.join(here or "/", name.removeprefix("./"))  # noqa: PTH118
            found = self._read_by(program.typed, f"{program.typed} {word.typed}", path)
            if found and found.what not in self.seen:
                self.seen.add(found.what)
                yield found
            return

    # ── Files ────────────────────────────────────────────────────────────────────────────────────
    def _program(self, typed: str, name: str, here: str, *, by_shell: bool) -> Finding:
        """Return where a program is, looked for as the shell does."""
        if "/" in name:
            path = os.path.join(here, name.removeprefix("./"))  # noqa: PTH118
            return self._of_file(typed, path, by_shell=by_shell)
        refused = ""
        for path in self._places(name, here):
            if not os.path.isfile(path):  # noqa: PTH113
                continue
            if os.access(path, os.X_OK):
                return self._of_file(typed, path, by_shell=by_shell)
            refused = refused or path
        if refused:
            return Finding("not_executable", typed, refused, {"path": refused})
        for folder in ELSEWHERE:
            path = os.path.join(os.path.expanduser(folder), name)  # noqa: PTH111, PTH118
            if _is_path(path) and os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
                return Finding("elsewhere", typed, path, {"path": path})
        return Finding("not_found", typed)

    def _places(self, name: str, here: str) -> Iterator[str]:
        for folder in self.path.split(os.pathsep)[:MOST_FOLDERS]:
            path = os.path.join(here, folder, name)  # noqa: PTH118
            if _is_path(path):
                yield path

    def _of_file(self, typed: str, path: str, *, by_shell: bool) -> Finding:
        """Return whether a file can be executed, and by what."""
        facts = {"path": path, "user": self.user}
        try:
            mode = os.stat(path).st_mode if _is_path(path) else 0  # noqa: PTH116
        except PermissionError:
            return Finding("no_way", typed, path, facts)
        except OSError:
            mode = 0
        if not mode:
            return Finding("no_file", typed, facts=facts)
        if stat.S_ISDIR(mode):
            return Finding("is_folder", typed, path, facts)
        if not os.access(path, os.X_OK):
            return Finding("not_executable", typed, path, facts)
        code, program = self._executed_by(path, by_shell=by_shell)
        if code == "found" and path == os.path.join(os.path.dirname(sys.executable), typed):  # noqa: PTH118, PTH120
            code = "own_python" if typed.startswith("python") else code
        return Finding(code, typed, path, facts | {"program": program})

    def _executed_by(self, path: str, *, by_shell: bool) -> tuple[str, str]:
        """Return what is wrong with a file's first line, and the program it asks for."""
        line = _first_line(path)
        if not line.startswith(b"#!"):
            # The shell takes a text without such a line for its own; the system does not.
            is_text = bool(line) and b"\0" not in line and line.isascii() and not by_shell
            return ("no_first_line" if is_text else "found"), ""
        if line.endswith(b"\r"):
            return "windows_line", ""
        words = [os.fsdecode(word) for word in line[2:].split()]
        if not words:
            return "no_first_line", ""
        if os.path.basename(words[0]) == "env" and len(words) > 1:  # noqa: PTH119
            meant = next((w for w in words[1:] if not w.startswith("-") and "=" not in w), "")
            is_there = not meant or any(
                os.path.isfile(place) and os.access(place, os.X_OK)  # noqa: PTH113
                for place in self._places(meant, "/")
            )
            return ("found" if is_there else "no_interpreter"), meant
        is_there = _is_path(words[0]) and os.access(words[0], os.X_OK)
        return ("found" if is_there else "no_interpreter"), words[0]

    def _read_by(self, program: str, typed: str, path: str) -> Finding | None:
        """Return what keeps a program from reading its script; None for nothing."""
        facts = {"path": path, "user": self.user, "program": program}
        if not _is_path(path) or not os.path.exists(path):  # noqa: PTH110
            return Finding("no_script" if program else "no_file", typed, facts=facts)
        if not os.access(path, os.R_OK):
            return Finding("unreadable", typed, path, facts)
        return None

    def _home(self, user: str) -> str | None:
        if not user:
            return self.variables.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
        try:
            return pwd.getpwnam(user).pw_dir
        except (KeyError, ValueError):
            return None


def _assigned_twice(commands: list[Command]) -> set[str]:
    """Return the variables whose value depends on the way: set more than once, or read."""
    once: set[str] = set()
    twice: set[str] = set()
    for command in commands:
        names = [name for name, _word in command.assigned if not command.words]
        first = command.words[0].plain if command.words else None
        if first in SETTING:
            names += [name for name, _word in _set_by(command)]
        if first in {"read", "getopts"}:
            twice.update(filter(None, (word.plain for word in command.words[1:])))
        for name in names:
            (twice if name in once else once).add(name)
    return twice


def _set_by(command: Command) -> tuple[tuple[str, Word], ...]:
    """Return what `export NAME=value …` sets."""
    found = (shellwords.assignment(word) for word in command.words[1:])
    return tuple(each for each in found if each is not None)


def _behind(name: str, words: list[Word]) -> list[Word]:
    """Return the words from the program on that stands behind another one; [] if that is open."""
    words = list(words)
    if name == "timeout" and words and re.fullmatch(r"[0-9.]+[smhd]?", words[0].plain or ""):
        words.pop(0)
    while words and shellwords.assignment(words[0]) is not None:
        words.pop(0)
    if not words or (words[0].literal or "-").startswith("-"):
        return []
    return words


def _expanded(path: str) -> str:
    """Return a path with its ~ as the runner replaces it; one that can be none as it is."""
    return os.path.expanduser(path) if _is_path(path) else path  # noqa: PTH111 - as the runner does


def _is_path(text: str) -> bool:
    return len(text) <= LONGEST_PATH and "\0" not in text


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _first_line(path: str) -> bytes:
    """Return the first line of a plain file, cut off; b"" where it can't be read."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return b""
        return os.read(number, FIRST_LINE).partition(b"\n")[0]
    except OSError:
        return b""
    finally:
        os.close(number)
