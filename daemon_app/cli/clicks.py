"""Click in our words: its own messages from our catalogue, numbers that say what they want."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click
import click.core
import click.decorators
import click.exceptions
import click.formatting
import click.parser
import click.types

from daemon_app.cli.language import gettext, gettext_noop, ngettext
from daemon_app.cli.outcome import Code, Refusal

# Digits; a number in the database has 64 bits.
LONGEST_NUMBER = 19
LONGEST_LINE = 100  # characters, of help

# What Click itself says, so that the catalogue has it. `tests/cli` looks for English in German
# help and errors, should a new Click put it otherwise.
CLICKS_WORDS = (
    gettext_noop("Usage:"),
    gettext_noop("Options"),
    gettext_noop("Positional arguments"),
    gettext_noop("Commands"),
    gettext_noop("Show this message and exit."),
    gettext_noop("Show the version and exit."),
    gettext_noop("%(prog)s, version %(version)s"),
    gettext_noop("required"),
    gettext_noop("default: {default}"),
    gettext_noop("Error: {message}"),
    gettext_noop("Try '{command} {option}' for help."),
    gettext_noop("Invalid value: {message}"),
    gettext_noop("Invalid value for {param_hint}: {message}"),
    gettext_noop("Missing argument"),
    gettext_noop("Missing option"),
    gettext_noop("Missing command."),
    gettext_noop("No such command {name!r}."),
    gettext_noop("No such option {name!r}."),
    gettext_noop("Option {name!r} does not take a value."),
    gettext_noop("Choose from:\n\t{choices}"),
    gettext_noop("Aborted!"),
)


def click_plurals() -> None:
    """Name the plurals Click uses; the collector of texts finds them here."""
    ngettext("Did you mean {possibility}?", "(Did you mean one of: {possibilities}?)", 1)
    ngettext("Got unexpected extra argument ({args})", "Got unexpected extra arguments ({args})", 1)
    ngettext(
        "Option {name!r} requires an argument.", "Option {name!r} requires {nargs} arguments.", 1
    )
    ngettext("{value!r} is not {choice}.", "{value!r} is not one of {choices}.", 1)


def translate_click() -> None:
    """Let Click speak through our catalogue.

    Its modules ask Python's gettext, which knows one catalogue for the whole process and finds the
    language in the environment alone: we would have to set LANGUAGE for every job we start.
    """
    for module in (
        click.core,
        click.decorators,
        click.exceptions,
        click.formatting,
        click.parser,
        click.types,
    ):
        for name, ours in (("_", gettext), ("ngettext", ngettext)):
            if hasattr(module, name):
                setattr(module, name, ours)


Examples = Sequence[tuple[str, str]]


def write_examples(examples: Examples, formatter: click.HelpFormatter) -> None:
    """Write command lines, each with what it is for. They are for copying, so never wrapped."""
    if not examples:
        return
    width = max((len(line) for line, purpose in examples if purpose), default=0)
    with formatter.section(gettext("Examples")):
        for line, purpose in examples:
            indent = " " * formatter.current_indent
            if formatter.current_indent + width + 2 + len(purpose) > LONGEST_LINE:
                formatter.write(f"{indent}{line}\n{indent}    {purpose}\n")
            else:
                formatter.write(f"{indent}{line:<{width}}  {purpose}".rstrip() + "\n")


class Command(click.Command):
    """A command whose help ends with examples: (command line, what it is for)."""

    def __init__(self, *arguments: Any, examples: Examples = (), **options: Any) -> None:
        options["options_metavar"] = gettext("[OPTIONS]")
        super().__init__(*arguments, **options)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """The same for a group; it lists its commands in the order in which they were added.

    `later`: words that are no commands here yet, with what to say of each.
    """

    command_class = Command

    def __init__(
        self,
        *arguments: Any,
        examples: Examples = (),
        later: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        options |= {
            "options_metavar": gettext("[OPTIONS]"),
            "subcommand_metavar": gettext("COMMAND [ARGUMENTS]"),
            "no_args_is_help": not options.get("invoke_without_command"),
        }
        super().__init__(*arguments, **options)
        self.examples = examples
        self.later = later

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant; refuse one of a later version as that."""
        known = not args or args[0] in self.commands or ctx.resilient_parsing
        if not known and args[0] in self.later:
            what_there_is = gettext("What there is: %(command)s") % {
                "command": f"{ctx.command_path} --help"
            }
            raise Refusal(self.later[args[0]], what_there_is, code=Code.USAGE)
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands."""
        return list(self.commands)


def is_number(text: str) -> bool:
    """Return whether `text` may be the number of a row."""
    text = text.strip()
    return text.isascii() and text.isdigit() and len(text) < LONGEST_NUMBER


class WholeNumber(click.IntRange):
    """A whole number between two bounds; what else was typed is answered with an example."""

    def __init__(self, low: int, high: int, example: int) -> None:
        super().__init__(low, high)
        self.low, self.high, self.example = low, high, example

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """Return how help names such a value."""
        return gettext("NUMBER")

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the number; fail with the bounds and an example."""
        text = str(value).strip()
        if text.isascii() and text.isdigit() and self.low <= int(text[:18]) <= self.high:
            return int(text)
        return self.fail(
            gettext(
                "“%(text)s” is no whole number from %(low)s to %(high)s. For example: %(example)s"
            )
            % {"text": text, "low": self.low, "high": self.high, "example": self.example},
            param,
            ctx,
        )
