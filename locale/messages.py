"""Keep the German catalogue complete: `make messages`, and `--check` for CI.

Collects every text that Python code hands to gettext and templates translate, adds new ones to
`django.po` (to be filled in), drops those that are gone, and compiles `django.mo`. GNU gettext is
not needed. Texts in code are English and need no catalogue.

`--check` changes nothing and fails when a text is missing, untranslated, doubtful or gone, when a
placeholder differs, or when `django.mo` is not what `django.po` says.
"""

import argparse
import ast
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
PO = ROOT / "locale/de/LC_MESSAGES/django.po"
MO = PO.with_suffix(".mo")

# Where code imports those functions from; the command line has its own, which need no Django.
GETTEXT = ("django.utils.translation", "daemon_app.cli.language")
# What each function takes, in order.
TEXTS_OF = {
    "gettext": ("singular",),
    "gettext_lazy": ("singular",),
    "gettext_noop": ("singular",),
    "ngettext": ("singular", "plural"),
    "ngettext_lazy": ("singular", "plural"),
    "pgettext": ("context", "singular"),
    "pgettext_lazy": ("context", "singular"),
    "npgettext": ("context", "singular", "plural"),
    "npgettext_lazy": ("context", "singular", "plural"),
}
STRING = r"""u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
TEMPLATE_CALL = re.compile(
    rf"(?:^|\s)(_|gettext|ngettext|pgettext|npgettext)\({STRING}(?:, {STRING})?(?:, {STRING})?"
)
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[sd]|\{\w*\}")


class Text(NamedTuple):
    """One text to translate, as it stands in the code."""

    singular: str
    plural: str | None = None
    context: str | None = None

    @property
    def id(self) -> str | tuple[str, str]:
        """The text as Babel names it."""
        return (self.singular, self.plural) if self.plural is not None else self.singular


class GermanCatalogue(Catalog):
    """A catalogue whose header has no dates: the same texts give the same file."""

    @property
    def mime_headers(self) -> list[tuple[str, str]]:
        """The headers that matter."""
        return [
            ("Project-Id-Version", "bach-daemon"),
            ("Language", "de"),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Plural-Forms", "nplurals=2; plural=(n != 1);"),
        ]


def main() -> int:
    """Bring the catalogue up to date, or check it; return 0 when all is translated."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail on a problem")
    if parser.parse_args().check:
        problems = list(find_problems())
        print("\n".join(problems) or "The German catalogue is complete.")
        return 1 if problems else 0

    catalogue = merge(find_texts(), read())
    PO.write_bytes(po_bytes(catalogue))
    MO.write_bytes(mo_bytes(catalogue))
    open_ones = [message for message in catalogue if message.id and not is_translated(message)]
    for message in open_ones:
        print(f"untranslated: {label(message)}")
    print(f"{len(catalogue)} texts, {len(open_ones)} to translate in {PO.relative_to(ROOT)}")
    return 0


def find_problems() -> Iterator[str]:
    """Yield a line for each thing that keeps the catalogue from being complete."""
    texts = find_texts()
    catalogue = read()
    for text, places in texts.items():
        message = catalogue.get(text.id, text.context)
        where = ", ".join(sorted(places))
        if message is None:
            yield f"missing (run `make messages`): {text.singular!r} in {where}"
        elif not is_translated(message):
            yield f"untranslated: {text.singular!r} in {where}"
        elif message.fuzzy:
            yield f"marked as fuzzy: {text.singular!r}"
        elif problem := differing_placeholders(message):
            yield f"{problem}: {text.singular!r}"
    wanted = {(text.id, text.context) for text in texts}
    for message in catalogue:
        if message.id and (message.id, message.context) not in wanted:
            yield f"gone from the code (run `make messages`): {label(message)}"
    if not MO.exists() or MO.read_bytes() != mo_bytes(merge(texts, catalogue)):
        yield f"{MO.relative_to(ROOT)} is stale (run `make messages`)"


def find_texts() -> dict[Text, set[str]]:
    """Return every text with the files it stands in."""
    texts: dict[Text, set[str]] = {}
    for folder in ("bachweb", "daemon_app"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            for text in texts_in_python(path.read_text(encoding="utf-8"), place):
                texts.setdefault(text, set()).add(place)
    for path in sorted((ROOT / "templates").rglob("*.*")):
        if path.suffix in {".html", ".txt", ".js", ".svg"}:
            place = path.relative_to(ROOT).as_posix()
            for text in texts_in_template(path.read_text(encoding="utf-8")):
                texts.setdefault(text, set()).add(place)
    return texts


def texts_in_python(source: str, place: str) -> Iterator[Text]:
    """Yield the texts of one module, whatever names it imports gettext's functions under.

    They may be Django's, or the command line's own, which read the same catalogue.
    Raises SystemExit for a text that can't be found by reading, such as an f-string.
    """
    tree = ast.parse(source)
    functions = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in GETTEXT
        for alias in node.names
        if alias.name in TEXTS_OF
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id=name):
                function = functions.get(name)
            case ast.Attribute(value=ast.Name(id="translation"), attr=name):
                function = name if name in TEXTS_OF else None
            case _:
                function = None
        if not function:
            continue
        fields = TEXTS_OF[function]
        values = [a.value for a in node.args[: len(fields)] if isinstance(a, ast.Constant)]
        if len(values) == len(fields):
            yield Text(**dict(zip(fields, map(str, values), strict=True)))
        elif any(isinstance(part, ast.JoinedStr | ast.BinOp) for part in node.args):
            sys.exit(f"{place}:{node.lineno}: a text to translate must be one plain string")


def texts_in_template(source: str) -> Iterator[Text]:
    """Yield the texts of one template."""
    for match in TEMPLATE_CALL.finditer(templatize(source)):
        function, *strings = match.groups()
        fields = TEXTS_OF["gettext" if function == "_" else function]
        values = [ast.literal_eval(string) for string in strings if string is not None]
        yield Text(**dict(zip(fields, values, strict=False)))


def read() -> Catalog:
    """Return the catalogue as it stands, an empty one at first."""
    if not PO.exists():
        return GermanCatalogue(locale="de")
    with PO.open("rb") as file:
        return read_po(file, locale="de")


def merge(texts: dict[Text, set[str]], translated: Catalog) -> Catalog:
    """Return a catalogue of exactly `texts`, with what is translated already."""
    catalogue = GermanCatalogue(locale="de", fuzzy=False)
    catalogue.header_comment = "# The German texts of BACH Daemon. `make messages` adds new ones."
    for text, places in texts.items():
        old = translated.get(text.id, text.context)
        catalogue.add(
            text.id,
            old.string if old else None,
            locations=[(place, 1) for place in sorted(places)],
            user_comments=old.user_comments if old else (),
            flags={"fuzzy"} if old and old.fuzzy else (),
            context=text.context,
        )
    return catalogue


def po_bytes(catalogue: Catalog) -> bytes:
    """Return the text file: sorted, without line numbers, so that only real changes show."""
    file = io.BytesIO()
    write_po(file, catalogue, width=100, sort_output=True, include_lineno=False)
    return file.getvalue().rstrip() + b"\n"


def mo_bytes(catalogue: Catalog) -> bytes:
    """Return the compiled file, which holds finished translations only."""
    file = io.BytesIO()
    write_mo(file, catalogue)
    return file.getvalue()


def is_translated(message: Message) -> bool:
    """Tell whether every form of `message` has a translation."""
    forms = message.string if isinstance(message.string, tuple | list) else (message.string,)
    return len(forms) == (2 if message.pluralizable else 1) and all(forms)


def differing_placeholders(message: Message) -> str | None:
    """Return what is wrong with the placeholders of a translation, None when nothing is."""
    ids = message.id if isinstance(message.id, tuple | list) else (message.id,)
    forms = message.string if isinstance(message.string, tuple | list) else (message.string,)
    known = {name for part in ids for name in PLACEHOLDER.findall(part)}
    for form in filter(None, forms):
        found = set(PLACEHOLDER.findall(form))
        # "one run" needs no number: a plural's forms may leave one out.
        if found - known or (known - found and not message.pluralizable):
            return f"placeholders {sorted(found)} instead of {sorted(known)}"
    return None


def label(message: Message) -> str:
    """Return how a line names `message`."""
    return repr(message.id[0] if isinstance(message.id, tuple | list) else message.id)


if __name__ == "__main__":
    sys.exit(main())
