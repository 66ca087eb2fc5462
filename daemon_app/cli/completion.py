"""`bach completion`: a shell that completes commands, options, and what the database holds.

A key is pressed and somebody waits: names and numbers are read without Django, straight from the
database file, and nothing is said where there is none.
"""

import contextlib
import os
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

from daemon_app.cli.clicks import Command
from daemon_app.cli.language import gettext as _

ASKED = "_BACH_COMPLETE"  # as Click derives it from the name of the program
SHELLS = ("bash", "zsh", "fish")
MOST = 200
PATIENCE = 0.3  # seconds for a locked database
SUMMARY = 60  # characters beside a completion
# What may stand in a word of a shell as it is.
PLAIN = re.compile(r"[^\w@%+=:,./-]")
# Where a checkout keeps its data unless BACH_DATA_DIR says otherwise (bachweb.settings).
DATA = Path(__file__).parents[2] / "data"

BASH = r"""
_bach_completion() {
    local IFS=$'\n' kind value
    COMPREPLY=()
    while IFS=$'\t' read -r kind value; do
        case $kind in
            file) compopt -o default 2>/dev/null ;;
            dir) compopt -o dirnames 2>/dev/null ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _BACH_COMPLETE=bash_complete \
        "$1" 2>/dev/null)
}
complete -o nosort -F _bach_completion bach 2>/dev/null || complete -F _bach_completion bach
"""
ZSH = r"""
#compdef bach
_bach() {
    local kind value text
    local -a values
    while IFS=$'\t' read -r kind value text; do
        case $kind in
            file) _files ;;
            dir) _files -/ ;;
            plain) values+=("${value//:/\\:}${text:+:$text}") ;;
        esac
    done < <(COMP_WORDS="${(pj:\n:)words}" COMP_CWORD=$((CURRENT - 1)) \
        _BACH_COMPLETE=zsh_complete "${words[1]}" 2>/dev/null)
    (( $#values )) && _describe -V bach values
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _bach "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _bach bach
fi
"""
FISH = r"""
function __bach_complete
    set -l before (commandline -opc)
    set -l words $before (commandline -ct | string unescape)
    COMP_WORDS=(string join \n -- $words | string collect) COMP_CWORD=(count $before) \
        _BACH_COMPLETE=fish_complete $before[1] 2>/dev/null | while read -l -d \t kind value text
        switch $kind
            case file
                __fish_complete_path (commandline -ct)
            case dir
                __fish_complete_directories (commandline -ct)
            case plain
                printf '%s\t%s\n' $value $text
        end
    end
end
complete --no-files --keep-order --command bach --arguments '(__bach_complete)'
"""


@click.command(
    cls=Command,
    help=_(
        "Print what makes a shell complete commands, options, jobs, runs, pools and tokens.\n\n"
        "It is read when the shell starts; the examples say where it belongs."
    ),
    examples=(
        ("bach completion fish > ~/.config/fish/completions/bach.fish", _("once")),
        ('eval "$(bach completion bash)"', _("in ~/.bashrc")),
        ('eval "$(bach completion zsh)"', _("in ~/.zshrc")),
    ),
    short_help=_("Print what makes a shell complete commands."),
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script."""
    click.echo({"bash": BASH, "zsh": ZSH, "fish": FISH}[shell].strip())


def is_asked() -> bool:
    """Return whether a shell asks what a word may become."""
    return ASKED in os.environ


def prepare(root: click.Group) -> None:
    """Let Click answer a shell: in our form, and with names of the database for `root`."""
    for shell in (Bash, Zsh, Fish):
        add_completion_class(shell)
    for path, command in commands(root, ""):
        for parameter in command.params:
            find = _finder(path, parameter)
            if find:
                parameter._custom_shell_complete = find  # noqa: SLF001 - what `shell_complete=` sets


class _Shell(ShellComplete):
    """Words come line by line; what is answered goes back the same way, with its kind."""

    source_template: ClassVar[str] = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        words = [self.read(word) for word in os.environ["COMP_WORDS"].split("\n")]
        place = int(os.environ["COMP_CWORD"])
        return words[1:place], words[place] if place < len(words) else ""

    def read(self, word: str) -> str:
        """Return what was meant by a word as it was typed."""
        for end in ("", "'", '"', "\\"):
            try:
                return "".join(shlex.split(word + end))
            except ValueError:
                continue
        return word

    def format_completion(self, item: CompletionItem) -> str:
        text = " ".join((item.help or "").split())
        short = text if len(text) <= SUMMARY else f"{text[: SUMMARY - 1]}…"
        return f"{item.type}\t{item.value}\t{short}"


class Bash(_Shell):
    """Bash takes words as they stand in a line, and shows no summary.

    It also ends a word at ":" and "=", and then replaces what follows alone.
    """

    name = "bash"
    kept = ""  # what of the last word stands already

    def get_completion_args(self) -> tuple[list[str], str]:
        place = int(os.environ["COMP_CWORD"])
        words: list[str] = []
        is_open = False
        for word in os.environ["COMP_WORDS"].split("\n")[: place + 1]:
            breaks = bool(word) and not word.strip(":=")
            self.kept = ""
            if words and (breaks or is_open):
                self.kept = words[-1] + (word if breaks else "")
                words[-1] += word
            else:
                words.append(word)
            is_open = breaks
        if self.kept.startswith("-"):
            self.kept = ""  # of "--role=viewer" only the value is asked for
        self.typed = words[-1] if len(words) > 1 else ""
        read = [self.read(word) for word in words]
        return read[1:-1], read[-1] if len(words) > 1 else ""

    def format_completion(self, item: CompletionItem) -> str:
        value = str(item.value).removeprefix(self.read(self.kept))
        if not self.typed.startswith(("'", '"')):  # else that quote holds it together
            value = PLAIN.sub(r"\\\g<0>", value)
        return f"{item.type}\t{value}"


class Zsh(_Shell):
    """Zsh quotes what needs it."""

    name = "zsh"


class Fish(_Shell):
    """Fish hands over what was meant, and quotes what needs it."""

    name = "fish"

    def read(self, word: str) -> str:
        return word


# ── What the database holds ──────────────────────────────────────────────────────────────────────
Finder = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
ACTIVE_ALONE = {"cancel", "drop", "force", "move"}


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all below it, each with its path: "daemon run"."""
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, f"{path} {name}".strip())


def _finder(path: str, parameter: click.Parameter) -> Finder | None:
    """Return what completes a parameter, told by how help names it; None where nothing is known."""
    last = path.rpartition(" ")[2]
    if parameter.metavar in {_("ID|NAME"), _("[ID|NAME]"), _("[JOB]…")}:
        return _jobs
    if parameter.metavar == _("RUN"):
        return _active_runs if last in ACTIVE_ALONE else _runs
    if path in {"daemon pools set", "daemon pools remove"} and parameter.name == "name":
        return _pools
    if path == "daemon token revoke":
        return _tokens
    if (parameter.metavar or "").strip("[]") in {
        _("FILE"),
        _("FOLDER"),
        _("FOLDER|FILE…"),
        _("FILE…"),
    }:
        return _files
    return None


def _jobs(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    if typed.isascii() and typed.isdigit():
        return _numbered("daemon_jobs", "name", typed)
    found = _rows(
        "SELECT name, id, description FROM daemon_jobs "
        "WHERE substr(name, 1, length(:typed)) = :typed ORDER BY name LIMIT :most",
        typed,
    )
    return [CompletionItem(name, help=f"{pk} {about}") for name, pk, about in found]


def _runs(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    return _numbered("daemon_runs", "job_name", typed)


def _active_runs(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    return _numbered("daemon_runs", "job_name", typed, "state IN ('queued', 'running')")


def _tokens(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    return _numbered("daemon_tokens", "name", typed, "revoked_at IS NULL")


def _files(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    return [CompletionItem(typed, type="file")]


def _pools(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    found = _rows(
        "SELECT name, description FROM daemon_pools "
        "WHERE substr(name, 1, length(:typed)) = :typed ORDER BY name LIMIT :most",
        typed,
    )
    return [CompletionItem(name, help=about) for name, about in found]


def _numbered(table: str, name: str, typed: str, condition: str = "1 = 1") -> list[CompletionItem]:
    """Return the newest rows whose number begins as was typed, each with its name."""
    found = _rows(
        f"SELECT id, {name} FROM {table} WHERE {condition} "  # noqa: S608 - words of ours
        "AND substr(CAST(id AS TEXT), 1, length(:typed)) = :typed ORDER BY id DESC LIMIT :most",
        typed,
    )
    return [CompletionItem(str(pk), help=text) for pk, text in found]


def _rows(question: str, typed: str) -> list[Any]:
    """Return what the database answers; nothing when there is none, or it can't answer at once."""
    values = {"typed": typed, "most": MOST}
    if os.environ.get("DATABASE_URL"):
        return _rows_elsewhere(question, values)
    file = Path(os.environ.get("BACH_DATA_DIR") or DATA).expanduser() / "bach.sqlite3"
    # Looking never makes a file, and never writes one.
    address = f"file:{quote(str(file.absolute()))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=PATIENCE)) as database:
            return database.execute(question, values).fetchall()
    except sqlite3.Error:
        return []


def _rows_elsewhere(question: str, values: dict[str, Any]) -> list[Any]:
    """Ask another database than the usual file, by way of Django; nothing when it does not answer.

    That takes a moment longer.
    """
    from daemon_app.cli import project

    with contextlib.suppress(Exception), project.database(queue=False):
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(re.sub(r":(\w+)", r"%(\1)s", question), values)
            return list(cursor.fetchall())
    return []
