"""JSON, YAML and TOML files: what is wrong in one, with line and column.

They are read by the parsers that programs read them with, and checked against a JSON Schema where
one is named or lies beside them. Nothing is ever fetched from the network.
"""

import json
import os
import re
import stat
import tomllib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, time
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import jsonschema
import referencing
import referencing.exceptions
import referencing.jsonschema
import yaml
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY as METASCHEMAS

from daemon_app.skills.faults import SUFFIXES, Fault

LARGEST: Final = 5_000_000  # bytes
MOST_FAULTS: Final = 20  # told of one file
# A few lines of anchors may stand for more values than fit into any memory.
MOST_VALUES: Final = 200_000
# libyaml's composer calls itself: 40,000 levels end a process with a stack of 8 MB, 5,000 one with
# a stack of 1 MB.
DEEPEST: Final = 1000
LEFT: Final = re.compile(r"^[ \t?:-]+", re.MULTILINE)  # what block structures begin with
MODELINE: Final = re.compile(r"^#\s*yaml-language-server:\s*\$schema=(\S+)", re.MULTILINE)
NO_JSON: Final = re.compile(r"(?<=[:,\[\s])(?:NaN|-?Infinity)\b")
LATEST: Final = jsonschema.Draft202012Validator
try:
    Composer: Any = yaml.CSafeLoader
except AttributeError:  # PyYAML without libyaml
    Composer = yaml.SafeLoader


class _Unfit(Exception):  # noqa: N818 - carries what is told
    """A file or a schema that can't be read any further."""

    def __init__(self, text: str, line: int = 0, column: int = 0, *, is_grave: bool = True) -> None:
        super().__init__(text)
        self.fault = Fault(line, column, text, is_grave)


@dataclass
class _Document:
    """One document of a file: its value, and where in the text each part stands."""

    value: Any
    places: "_Places"


@dataclass
class Examiner:
    """Examines files; what it has read of schemas it keeps."""

    _validators: dict[Path, Any] = field(default_factory=dict)

    def examine(self, file: Path) -> list[Fault]:
        """Return what is wrong in `file`, MOST_FAULTS and a word on the rest; [] if none."""
        try:
            text = _decoded(_content(file))
            faults = list(islice(self._faults(file, text), MOST_FAULTS + 1))
        except _Unfit as unfit:
            return [unfit.fault]
        except RecursionError:
            return [Fault(0, 0, _t("Nested too deeply to be read."))]
        if len(faults) > MOST_FAULTS:
            faults[MOST_FAULTS:] = [Fault(0, 0, _t("… and more; the rest is left out."))]
        return faults

    def _faults(self, file: Path, text: str) -> Iterator[Fault]:
        documents, faults = READERS[SUFFIXES[file.suffix.lower()]](text)
        yield from faults
        for document in documents:
            yield from self._by_schema(file, text, document)

    # ── Schemas ──────────────────────────────────────────────────────────────────────────────────
    def _by_schema(self, file: Path, text: str, document: _Document) -> Iterator[Fault]:
        value = document.value
        named = value.get("$schema") if isinstance(value, dict) else None
        named = named if isinstance(named, str) else None
        is_schema = file.name.endswith(".schema.json")
        if is_schema or (named is not None and named.rstrip("#") in METASCHEMAS):
            kind = validator_for(value, default=LATEST) if isinstance(value, dict) else LATEST
            checks = kind(kind.META_SCHEMA, registry=METASCHEMAS)
            yield from _told(checks.iter_errors(value), document)
            return
        if named is None and (modeline := MODELINE.search(text)):
            named = modeline[1]
        try:
            schema = _schema_of(file, named)
            validator = self._validator(schema) if schema else None
        except _Unfit as unfit:
            line, column = document.places.of(["$schema"])
            yield Fault(line, column, unfit.fault.text)
            return
        if validator is None:
            return
        if isinstance(value, dict) and "$schema" in value:
            value = {key: kept for key, kept in value.items() if key != "$schema"}
        try:
            yield from _told(validator.iter_errors(value), document)
        except referencing.exceptions.Unresolvable as error:
            about = {"schema": schema.name if schema else "", "ref": error.ref}
            said = _t("The schema %(schema)s refers to “%(ref)s”, which is no file here.")
            yield Fault(0, 0, said % about)

    def _validator(self, schema: Path) -> Any:
        """Return what checks by `schema`; raises _Unfit when that is no schema."""
        if schema not in self._validators:
            try:
                self._validators[schema] = _read_schema(schema)
            except _Unfit as unfit:
                self._validators[schema] = unfit
        found = self._validators[schema]
        if isinstance(found, _Unfit):
            raise found
        return found


# ── Text ─────────────────────────────────────────────────────────────────────────────────────────
def _content(file: Path) -> bytes:
    """Return the file's bytes; raises _Unfit."""
    try:
        # Without waiting: a pipe that somebody has put there would never answer.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(file, flags), "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _Unfit(_t("This is no regular file."))
            data = opened.read(LARGEST + 1) if found.st_size <= LARGEST else b"." * (LARGEST + 1)
    except OSError as error:
        said = _t("It can't be read: %(error)s.") % {"error": error.strerror or error}
        raise _Unfit(said) from error
    if len(data) > LARGEST:
        said = _t("Not looked into: it is larger than %(n)s MB.") % {"n": LARGEST // 1_000_000}
        raise _Unfit(said, is_grave=False)
    return data


def _decoded(data: bytes) -> str:
    """Return the text; raises _Unfit."""
    codec = "utf-8-sig"
    for mark, name in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            codec = name
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before) - (before.rfind(b"\n") + 1) + 1
        raise _Unfit(_t("This is no text in UTF-8."), line, column) from error


def _spot(text: str, at: int) -> tuple[int, int]:
    """Return line and column of the character at `at`."""
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


# ── Readers: the documents of a text, and what is wrong with it otherwise ────────────────────────
def _json(text: str) -> tuple[list[_Document], list[Fault]]:
    doubled: list[str] = []

    def join(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _value in pairs]
            doubled.extend(name for name in found if names.count(name) > 1)
        return found

    def refuse(constant: str) -> None:
        found = NO_JSON.search(text)
        place = _spot(text, found.start()) if found else (0, 0)
        raise _Unfit(_t("“%(word)s” is no JSON.") % {"word": constant}, *place)

    try:
        value = json.loads(text, object_pairs_hook=join, parse_constant=refuse)
    except json.JSONDecodeError as error:
        said = _t("This is no JSON: %(why)s.") % {"why": error.msg}
        raise _Unfit(said, error.lineno, error.colno) from error
    except ValueError as error:
        raise _Unfit(_t("A number in it has too many digits to be read.")) from error
    places = _JSONPlaces(text)
    faults = places.doubled() if doubled else []
    if doubled and not faults:
        faults = [Fault(0, 0, _doubled(name)) for name in doubled]
    return [_Document(value, places)], faults


def _yaml(text: str) -> tuple[list[_Document], list[Fault]]:
    documents, faults = [], []
    loader = None
    try:
        _refuse_depth(text)
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            faults += _doubled_in(node)
            if _is_too_much(node):
                line, column = _start(node)
                said = _t("Its aliases stand for more than %(n)s values.") % {"n": MOST_VALUES}
                faults.append(Fault(line, column, said))
                continue
            documents.append(_Document(_plain(loader.construct_document(node)), _Nodes(node)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = ", ".join(filter(None, (error.context, error.problem)))
        said = _t("This is no YAML: %(why)s.") % {"why": why}
        faults.append(Fault(mark.line + 1, mark.column + 1, said) if mark else Fault(0, 0, said))
    except yaml.reader.ReaderError as error:
        where = _spot(text, min(error.position, len(text)))
        said = _t("This is no YAML: the character U+%(code)s may not stand in it.")
        faults.append(Fault(*where, said % {"code": f"{_code(error.character):04X}"}))
    finally:
        if loader is not None:
            loader.dispose()
    return documents, faults


def _refuse_depth(text: str) -> None:
    """Raise RecursionError where YAML is nested deeper than DEEPEST, as far as it is YAML."""
    # Each level has a bracket, or begins further to the right: most files need no closer look.
    furthest = max(map(len, LEFT.findall(text)), default=0)
    if text.count("[") + text.count("{") + 2 * furthest < DEEPEST:
        return
    depth = 0
    with suppress(yaml.YAMLError):  # told by who reads it in earnest, and gets no further
        for event in yaml.parse(text, Loader=Composer):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > DEEPEST:
                    raise RecursionError
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1


def _toml(text: str) -> tuple[list[_Document], list[Fault]]:
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        why, _, rest = str(error).partition(" (at ")
        numbers = [int(number) for number in re.findall(r"\d+", rest)]
        if len(numbers) != 2:  # "at end of document"
            numbers = [*_spot(text, len(text.rstrip()))]
        raise _Unfit(_t("This is no TOML: %(why)s.") % {"why": why}, *numbers) from error
    except ValueError as error:
        raise _Unfit(_t("A number in it has too many digits to be read.")) from error
    return [_Document(_plain(value), _TOMLPlaces(text))], []


READERS: Final = {"JSON": _json, "YAML": _yaml, "TOML": _toml}


def _code(character: Any) -> int:
    return character if isinstance(character, int) else ord(character)


class _Loader(Composer):  # type: ignore[misc]
    """The safe loader, for which tags of other programs are no mistake."""


def _any(loader: Any, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


def _careful(name: str) -> Any:
    """Return the loader's own way with such values; what they can't be is told with its place."""
    plain = getattr(Composer, name)

    def construct(loader: Any, node: yaml.Node) -> Any:
        try:
            return plain(loader, node)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                None, None, str(error), node.start_mark
            ) from error

    return construct


_Loader.add_constructor(None, _any)
for _kind in ("timestamp", "int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _careful(f"construct_yaml_{_kind}"))


def _plain(value: Any) -> Any:
    """Return `value` as JSON could hold it: dates as text, keys as text."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, date | time) else value


# ── Places ───────────────────────────────────────────────────────────────────────────────────────
class _Places:
    """Where the parts of a document stand."""

    def of(self, _path: Sequence[str | int]) -> tuple[int, int]:
        """Return line and column of what `path` leads to, or of the nearest around it; (0, 0)."""
        return 0, 0


class _Nodes(_Places):
    """Where the nodes of YAML stand."""

    def __init__(self, node: yaml.Node) -> None:
        self._node = node

    def of(self, path: Sequence[str | int]) -> tuple[int, int]:
        node, spot = self._node, _start(self._node)
        for step in path:
            if isinstance(node, yaml.MappingNode):
                found = [(k, v) for k, v in node.value if k.value == str(step)]
                if not found:
                    break
                key, node = found[-1]
                spot = _start(key)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
                spot = _start(node)
        return spot


class _JSONPlaces(_Places):
    """Where the parts of a JSON text stand: nearly all JSON is YAML too, and that tells places."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._node: yaml.Node | None = None

    def of(self, path: Sequence[str | int]) -> tuple[int, int]:
        node = self._read()
        return _Nodes(node).of(path) if node else (0, 0)

    def doubled(self) -> list[Fault]:
        """Return a fault for each key that is given twice; [] when that can't be told."""
        node = self._read()
        return _doubled_in(node) if node else []

    def _read(self) -> yaml.Node | None:
        if self._node is None:
            with suppress(yaml.YAMLError, RecursionError):
                # In JSON a tab is only ever a blank, which YAML does not know.
                text = self._text.replace("\t", " ")
                _refuse_depth(text)
                self._node = yaml.compose(text, Loader=Composer)
        return self._node


class _TOMLPlaces(_Places):
    """Where the keys of a TOML text stand, as far as each has a line of its own."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def of(self, path: Sequence[str | int]) -> tuple[int, int]:
        wanted = [step for step in path if isinstance(step, str)]
        table: list[str] = []
        best, depth = (0, 0), 0
        for number, line in enumerate(self._lines, 1):
            if head := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
                table = found = _dotted(head[1])
            elif key := re.match(r"\s*([\w.\-\"' ]+?)\s*=", line):
                found = [*table, *_dotted(key[1])]
            else:
                continue
            if depth < len(found) <= len(wanted) and found == wanted[: len(found)]:
                best, depth = (number, len(line) - len(line.lstrip()) + 1), len(found)
        return best


def _dotted(key: str) -> list[str]:
    return [part.strip().strip("\"'") for part in key.split(".")]


def _start(node: yaml.Node) -> tuple[int, int]:
    mark = node.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _children(node: yaml.Node) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _doubled_in(node: yaml.Node) -> list[Fault]:
    """Return a fault for each key of a mapping at or below `node` that was there before."""
    faults, seen, todo = [], set(), [node]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        todo += _children(each)
        if not isinstance(each, yaml.MappingNode):
            continue
        known: dict[Hashable, int] = {}
        for key, _value in each.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                continue
            line, column = _start(key)
            if (key.tag, key.value) in known:
                first = known[key.tag, key.value]
                faults.append(Fault(line, column, _doubled(key.value, first)))
            else:
                known[key.tag, key.value] = line
    return sorted(faults)


def _doubled(key: str, first: int = 0) -> str:
    about = {"key": _shown(key), "line": first}
    if first:
        return _t("“%(key)s” is given twice (first in line %(line)s); one of them is lost.") % about
    return _t("“%(key)s” is given twice; one of them is lost.") % about


def _is_too_much(node: yaml.Node) -> bool:
    """Return whether aliases stand for more than MOST_VALUES values, or for what they are in."""
    weights: dict[int, int] = {}
    open_nodes: set[int] = set()
    todo = [(node, False)]
    while todo:
        each, is_left = todo.pop()
        if is_left:
            open_nodes.discard(id(each))
            weights[id(each)] = 1 + sum(weights.get(id(child), 1) for child in _children(each))
        elif id(each) in open_nodes:
            return True
        elif id(each) not in weights:
            open_nodes.add(id(each))
            todo.append((each, True))
            todo += [(child, False) for child in _children(each)]
    # What is there once has been read already, however much it is.
    return weights[id(node)] - len(weights) > MOST_VALUES


# ── Schemas ──────────────────────────────────────────────────────────────────────────────────────
def _schema_of(file: Path, named: str | None) -> Path | None:
    """Return the schema a file is to be checked by, None where there is none; raises _Unfit.

    One that lies on the network is not asked for.
    """
    if named is not None:
        parts = urlsplit(named)
        if parts.scheme in {"", "file"} and not parts.netloc:
            schema = (file.parent / unquote(parts.path)).resolve()
            if not schema.is_file():
                said = _t("The schema “%(name)s” does not exist.") % {"name": _shown(named)}
                raise _Unfit(said)
            return schema
    for name in (f"{file.stem}.schema.json", f"{file.name}.schema.json"):
        if (beside := file.with_name(name)).is_file():
            return beside.resolve()
    return None


def _read_schema(file: Path) -> Any:
    """Return what checks by the schema in `file`; raises _Unfit."""
    schema = _value_of(file)
    kind = validator_for(schema, default=LATEST) if isinstance(schema, dict) else LATEST
    wrong = best_match(kind(kind.META_SCHEMA, registry=METASCHEMAS).iter_errors(schema))
    if wrong is not None:
        about = {"schema": file.name, "why": _sentence(wrong)}
        raise _Unfit(_t("%(schema)s is no JSON Schema: %(why)s") % about)
    nearby = referencing.Registry(retrieve=_nearby)  # type: ignore[call-arg]
    resource = referencing.Resource.from_contents(
        schema, default_specification=referencing.jsonschema.DRAFT202012
    )
    registry = METASCHEMAS.combine(nearby.with_resource(file.as_uri(), resource))
    return kind({"$ref": file.as_uri()}, registry=registry)


def _nearby(uri: str) -> Any:
    """Return the schema that another refers to, from this machine alone."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc:
        raise referencing.exceptions.NoSuchResource(uri)
    try:
        found = _value_of(Path(unquote(parts.path)))
    except _Unfit as unfit:
        raise referencing.exceptions.NoSuchResource(uri) from unfit
    return referencing.Resource.from_contents(
        found, default_specification=referencing.jsonschema.DRAFT202012
    )


def _value_of(schema: Path) -> Any:
    try:
        return json.loads(_decoded(_content(schema)))
    except _Unfit as unfit:
        about = {"schema": schema.name, "why": unfit.fault.text}
        raise _Unfit(_t("The schema %(schema)s: %(why)s") % about) from unfit
    except ValueError as error:
        raise _Unfit(_t("The schema %(schema)s is no JSON.") % {"schema": schema.name}) from error


def _told(errors: Iterable[ValidationError], document: _Document) -> Iterator[Fault]:
    for each in errors:
        # Of several ways to be right, what is missing for the nearest.
        error = best_match([each]) or each
        path = list(error.absolute_path)
        extra = _extra(error)
        line, column = document.places.of([*path, *extra[:1]])
        said = _sentence(error)
        where = "/".join(str(step) for step in path)
        yield Fault(line, column, f"{_shown(where)}: {said}" if where else said)


# By keyword of JSON Schema. Values are not repeated: they may be secret.
SENTENCES: Final = {
    "required": _("%(wanted)s is missing."),
    "type": _("It must be %(wanted)s."),
    "enum": _("It must be one of %(wanted)s."),
    "const": _("It must be %(wanted)s."),
    "additionalProperties": _("%(extra)s is not known here."),
    "unevaluatedProperties": _("%(extra)s is not known here."),
    "pattern": _("It does not fit the pattern %(wanted)s."),
    "minimum": _("It must be %(wanted)s or more."),
    "maximum": _("It must be %(wanted)s or less."),
    "exclusiveMinimum": _("It must be more than %(wanted)s."),
    "exclusiveMaximum": _("It must be less than %(wanted)s."),
    "minLength": _("It must have %(wanted)s characters or more."),
    "maxLength": _("It must have %(wanted)s characters or less."),
    "minItems": _("It must have %(wanted)s entries or more."),
    "maxItems": _("It must have %(wanted)s entries or less."),
    "uniqueItems": _("No entry may be there twice."),
}
# What JSON Schema calls types.
KINDS: Final = {
    "string": _("text"),
    "integer": _("a whole number"),
    "number": _("a number"),
    "boolean": _("true or false"),
    "array": _("a list"),
    "object": _("an object"),
    "null": _("null"),
}
OTHERWISE: Final = _("It does not fit “%(keyword)s” of the schema.")


def _sentence(error: ValidationError) -> str:
    wanted: Any = error.validator_value
    if error.validator == "required":
        # One error each, and only the message tells of which.
        named = re.match(r"'(.*)' is a required", error.message)
        wanted = _quoted(named[1] if named else "?")
    elif error.validator == "type":
        kinds = wanted if isinstance(wanted, list) else [wanted]
        wanted = _t(" or ").join(str(KINDS.get(str(kind), kind)) for kind in kinds)
    elif error.validator == "enum" and isinstance(wanted, list):
        wanted = ", ".join(str(each) for each in wanted)
    about = {
        "wanted": _shown(str(wanted), 120),
        "extra": ", ".join(_quoted(_shown(name)) for name in _extra(error)) or _quoted("?"),
        "keyword": error.validator,
    }
    return str(SENTENCES.get(str(error.validator), OTHERWISE)) % about


def _quoted(name: str) -> str:
    return _t("“%(name)s”") % {"name": name}


def _extra(error: ValidationError) -> list[str]:
    """Return the names in an object that its schema does not know."""
    if error.validator not in {"additionalProperties", "unevaluatedProperties"}:
        return []
    if not isinstance(error.instance, Mapping):
        return []
    schema = error.schema if isinstance(error.schema, dict) else {}
    patterns = list(schema.get("patternProperties", {}))
    return [
        name
        for name in error.instance
        if name not in schema.get("properties", {})
        and not any(re.search(pattern, name) for pattern in patterns)
    ]


def _shown(text: str, most: int = 60) -> str:
    """Return `text` short and on one line."""
    text = "".join(letter if letter.isprintable() else "·" for letter in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
