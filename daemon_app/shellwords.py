"""The programs a line for the shell would start, as far as that can be read from it.

    >>> [each.words[0].literal for each in read("cd /srv && tar -c . | gzip > a.tgz").commands]
    ['cd', 'tar', 'gzip']

Pure, and nothing is executed: what only the running shell would know stays unknown.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

LONGEST: Final = 16_384  # characters; more is not read
DEEPEST: Final = 12  # substitutions, or brackets, within each other
MOST: Final = 200  # commands

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=")
# After these a command begins, as it does at the beginning of a line.
OPENING: Final = frozenset({"if", "then", "elif", "else", "while", "until", "do", "!", "{"})
CLOSING: Final = frozenset({"fi", "done", "esac", "}"})
RESERVED: Final = frozenset({"case", "for", "select", "function"})
OPERATORS: Final = (";;", "&&", "||", ";", "&", "|", "(", ")", "\n")
REDIRECTION = re.compile(r"[0-9]*(?:<<-?|<>|<&|>&|>>|>\||<|>)")
BLANK: Final = " \t\r"


class UnclosedError(Exception):
    """A quotation mark or bracket is opened and never closed; the argument is its sign."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a word: text, or a variable, or something nobody knows before the run."""

    kind: str  # "text", "variable", "unknown"
    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """A word as the shell sees it, before it replaces anything in it."""

    pieces: tuple[Piece, ...]
    typed: str

    @property
    def literal(self) -> str | None:
        """The text of a word in which nothing is replaced; None of any other."""
        if any(piece.kind != "text" for piece in self.pieces):
            return None
        return "".join(piece.text for piece in self.pieces)

    @property
    def plain(self) -> str | None:
        """The text of a word without any quotation; None of any other."""
        return None if any(piece.quoted for piece in self.pieces) else self.literal

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables in it."""
        return tuple(piece.text for piece in self.pieces if piece.kind == "variable")

    def expanded(
        self, variables: Mapping[str, str], home: Callable[[str], str | None]
    ) -> str | None:
        """Return the text the shell would make of it, None when that can't be known.

        `home` returns the folder of a user ("" is whose run it is), None when there is none.
        """
        text = ""
        for place, piece in enumerate(self.pieces):
            if piece.kind == "unknown":
                return None
            if piece.kind == "variable":
                value = variables.get(piece.text)
                # Without quotes the value would fall apart into words, or name several files.
                if value is None or (not piece.quoted and re.search(r"[\s*?\[]", value)):
                    return None
                text += value
            elif not piece.quoted and re.search(r"[*?\[]", piece.text):
                return None
            elif place == 0 and not piece.quoted and piece.text.startswith("~"):
                user, slash, rest = piece.text[1:].partition("/")
                if not slash and len(self.pieces) > 1:
                    return None
                folder = home(user)
                if folder is None:
                    return None
                text += folder + slash + rest
            else:
                text += piece.text
        return text


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what it is given, what is set for it, and in which subshells it stands."""

    words: tuple[Word, ...]
    assigned: tuple[tuple[str, Word], ...] = ()
    scope: tuple[int, ...] = ()


@dataclass(slots=True)
class Script:
    """What was read: the commands in their order, and the functions defined on the way."""

    commands: list[Command] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    loops: set[str] = field(default_factory=set)  # variables that change with each turn


def read(line: str) -> Script:
    """Return the commands of a line or script. Raises UnclosedError."""
    script = Script()
    _Reader(line[:LONGEST], script, (), 0).read()
    return script


def assignment(word: Word) -> tuple[str, Word] | None:
    """Return name and value of a word like NAME=value; None for any other."""
    first = word.pieces[0] if word.pieces else None
    if first is None or first.kind != "text" or first.quoted:
        return None
    found = ASSIGNMENT.match(first.text)
    if found is None:
        return None
    rest = Piece("text", first.text[found.end() :])
    pieces = (rest, *word.pieces[1:]) if rest.text else word.pieces[1:]
    if found[0].endswith("+="):
        pieces = (Piece("unknown", word.typed),)
    return found[1], Word(pieces, word.typed[found.end() :])


class _Reader:
    """Walks over a text once, from word to word."""

    def __init__(self, text: str, script: Script, scope: tuple[int, ...], depth: int) -> None:
        self.text = text
        self.script = script
        self.scope = scope
        self.depth = depth
        self.place = 0
        self.words: list[Word] = []
        self.assigned: list[tuple[str, Word]] = []
        self.heredocs: list[tuple[str, bool]] = []
        self.began = len(script.commands)
        # What the next word is: "command", "argument", "skip" (to the next operator),
        # "pattern" (of a case)
        self.expects = "command"
        self.cases = 0

    def read(self) -> None:
        """Read it all. Raises UnclosedError."""
        while self.place < len(self.text) and len(self.script.commands) < MOST:
            sign = self.text[self.place]
            if sign in BLANK:
                self.place += 1
            elif self.text.startswith("\\\n", self.place):
                self.place += 2
            elif sign == "#":
                end = self.text.find("\n", self.place)
                self.place = len(self.text) if end < 0 else end
            elif (found := REDIRECTION.match(self.text, self.place)) is not None:
                self._redirect(found[0])
            elif operator := next(
                (each for each in OPERATORS if self.text.startswith(each, self.place)), ""
            ):
                self._operate(operator)
            else:
                self._take(self._word())
        self._end()

    # ── Between words ────────────────────────────────────────────────────────────────────────────
    def _redirect(self, sign: str) -> None:
        self.place += len(sign)
        while self.place < len(self.text) and self.text[self.place] in BLANK:
            self.place += 1
        if self.place < len(self.text) and self.text[self.place] not in "\n;&|()":
            target = self._word()
            if "<<" in sign:
                ends = "".join(piece.text for piece in target.pieces)
                self.heredocs.append((ends, sign.endswith("-")))

    def _operate(self, operator: str) -> None:
        self.place += len(operator)
        if operator == "\n":
            self._pass_heredocs()
        if self.expects == "pattern":
            if operator == ")":
                self.expects = "command"
            return
        if operator == "(" and len(self.words) == 1 and self.expects == "argument":
            self._define()
            return
        self._end()
        if operator == "(":
            self.scope = (*self.scope, self.place)[:DEEPEST]
        elif operator == ")":
            self.scope = self.scope[:-1]
        if operator == ";;" and self.cases:
            self.expects = "pattern"

    def _define(self) -> None:
        """Take `name (` as the beginning of a function, whose body is read like any other."""
        if name := self.words[0].literal:
            self.script.functions.add(name)
        self.words = []
        self.expects = "command"
        rest = self.text[self.place :].lstrip(BLANK)
        if rest.startswith(")"):
            self.place = len(self.text) - len(rest) + 1

    def _pass_heredocs(self) -> None:
        for ends, tabs in self.heredocs:
            while self.place < len(self.text):
                end = self.text.find("\n", self.place)
                end = len(self.text) if end < 0 else end
                line = self.text[self.place : end]
                self.place = min(end + 1, len(self.text))
                if (line.lstrip("\t") if tabs else line) == ends:
                    break
        self.heredocs = []

    def _end(self) -> None:
        """File the command that has been read."""
        if self.words or self.assigned:
            command = Command(tuple(self.words), tuple(self.assigned), self.scope)
            # Before the ones that stand within its own words.
            self.script.commands.insert(self.began, command)
        self.began = len(self.script.commands)
        self.words, self.assigned = [], []
        self.expects = "command"

    # ── Words ────────────────────────────────────────────────────────────────────────────────────
    def _take(self, word: Word) -> None:
        """Give a word its place: as a command, something set for it, or one of its arguments."""
        plain = word.plain
        if self.expects == "pattern":
            if plain == "esac":
                self.cases -= 1
                self.expects = "skip"
        elif self.expects == "argument":
            self.words.append(word)
        elif self.expects == "command" and plain not in OPENING:
            if plain in CLOSING:
                self.expects = "skip"
            elif plain in RESERVED:
                self._take_reserved(plain)
            elif (found := assignment(word)) is not None:
                self.assigned.append(found)
            else:
                self.words.append(word)
                self.expects = "argument"

    def _take_reserved(self, word: str | None) -> None:
        if word == "case":
            self._pass_subject()
            return
        name = self._next_plain()
        if word == "function":
            self.script.functions.add((name or "").removesuffix("()"))
        else:
            self.script.loops.add(name or "")
            self.expects = "skip"

    def _next_plain(self) -> str | None:
        while self.place < len(self.text) and self.text[self.place] in BLANK:
            self.place += 1
        if self.place >= len(self.text) or self.text[self.place] in "\n;&|()<>":
            return None
        return self._word().plain

    def _pass_subject(self) -> None:
        """Pass over `word in` of a case."""
        self._next_plain()
        while self.place < len(self.text) and self.text[self.place] in BLANK + "\n":
            self.place += 1
        if self.text.startswith("in", self.place):
            self.place += 2
            self.cases += 1
            self.expects = "pattern"

    def _word(self) -> Word:  # noqa: C901 - one branch for each sign that means something
        """Read one word. Raises UnclosedError."""
        began = self.place
        pieces: list[Piece] = []
        text = ""

        def flush() -> None:
            nonlocal text
            if text:
                pieces.append(Piece("text", text))
            text = ""

        while self.place < len(self.text):
            sign = self.text[self.place]
            if sign in BLANK + "\n;&|()<>":
                break
            if sign == "\\":
                flush()
                escaped = self.text[self.place + 1 : self.place + 2]
                if escaped != "\n":
                    pieces.append(Piece("text", escaped, quoted=True))
                self.place += 2
            elif sign == "'":
                flush()
                end = self.text.find("'", self.place + 1)
                if end < 0:
                    raise UnclosedError("'")
                pieces.append(Piece("text", self.text[self.place + 1 : end], quoted=True))
                self.place = end + 1
            elif sign == '"':
                flush()
                pieces.extend(self._double_quoted())
            elif sign == "`" or (sign == "$" and self._replaces()):
                flush()
                pieces.append(self._replaced(quoted=False))
            else:
                text += sign
                self.place += 1
        flush()
        return Word(tuple(pieces), self.text[began : self.place])

    def _double_quoted(self) -> list[Piece]:
        self.place += 1
        pieces: list[Piece] = []
        text = ""
        while self.place < len(self.text):
            sign = self.text[self.place]
            if sign == '"':
                self.place += 1
                return [*pieces, Piece("text", text, quoted=True)]
            if sign == "\\" and self.text[self.place + 1 : self.place + 2] in {*'$`"\\\n'}:
                escaped = self.text[self.place + 1]
                text += "" if escaped == "\n" else escaped
                self.place += 2
            elif sign == "`" or (sign == "$" and self._replaces()):
                if text:
                    pieces.append(Piece("text", text, quoted=True))
                text = ""
                pieces.append(self._replaced(quoted=True))
            else:
                text += sign
                self.place += 1
        raise UnclosedError('"')

    # ── What is replaced ─────────────────────────────────────────────────────────────────────────
    def _replaces(self) -> bool:
        following = self.text[self.place + 1 : self.place + 2]
        return bool(following) and (following in "({@*#?$!-_" or following.isalnum())

    def _replaced(self, *, quoted: bool) -> Piece:
        """Read `$NAME`, `${…}`, `$(…)`, `$((…))` or backticks; commands in them are filed too."""
        began = self.place
        if self.text[began] == "`":
            inner = self._until_backtick()
            self._read_inner(inner)
            return Piece("unknown", self.text[began : self.place], quoted)
        following = self.text[began + 1]
        if self.text.startswith("$((", began):
            self._pass_brackets("(", ")")
        elif following == "(":
            self._pass_brackets("(", ")")
            self._read_inner(self.text[began + 2 : self.place - 1])
        elif following == "{":
            self._pass_brackets("{", "}")
            inner = self.text[began + 2 : self.place - 1]
            if NAME.fullmatch(inner):
                return Piece("variable", inner, quoted)
        elif found := NAME.match(self.text, began + 1):
            self.place = found.end()
            return Piece("variable", found[0], quoted)
        else:
            self.place += 2
        return Piece("unknown", self.text[began : self.place], quoted)

    def _read_inner(self, text: str) -> None:
        if self.depth < DEEPEST:
            scope = (*self.scope, self.place)
            _Reader(text, self.script, scope, self.depth + 1).read()

    def _until_backtick(self) -> str:
        place = self.place + 1
        text = ""
        while place < len(self.text) and self.text[place] != "`":
            if self.text[place] == "\\" and self.text[place + 1 : place + 2] in {*"$`\\"}:
                place += 1
            text += self.text[place : place + 1]
            place += 1
        if place >= len(self.text):
            raise UnclosedError("`")
        self.place = place + 1
        return text

    def _pass_brackets(self, opens: str, closes: str) -> None:
        """Move behind the bracket that closes the one at `$(` or `${`. Raises UnclosedError."""
        place, depth = self.place + 1, 0
        while place < len(self.text):
            sign = self.text[place]
            if sign == "\\":
                place += 1
            elif sign == "'":
                place = self.text.find("'", place + 1)
                if place < 0:
                    raise UnclosedError("'")
            elif sign == '"':
                place = self._end_of_quotation(place)
            elif sign == opens:
                depth += 1
            elif sign == closes:
                depth -= 1
                if not depth:
                    self.place = place + 1
                    return
            place += 1
        raise UnclosedError(f"${opens}")

    def _end_of_quotation(self, place: int) -> int:
        place += 1
        while place < len(self.text) and self.text[place] != '"':
            place += 2 if self.text[place] == "\\" else 1
        if place >= len(self.text):
            raise UnclosedError('"')
        return place
