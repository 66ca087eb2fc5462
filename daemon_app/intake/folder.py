"""A folder of definitions: what lies in it, and where each job has its place."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Final

from daemon_app.intake import definitions, files
from daemon_app.intake.definitions import JOB, Definition, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_FILES: Final = 20_000
ENDINGS: Final = (".yaml", ".yml")
# Pools and rules for all jobs; no job's name begins so.
SHARED: Final = "_rules.yaml"
LONGEST_STEM: Final = 60  # characters, of which each may have four bytes
UNFIT = re.compile(r"[^\w.+@()-]+")


class TakenError(Exception):
    """A file that would have to give way to a job: it says something else, or more than that."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.file = file


@dataclass
class Arrangement:
    """What writing would do: texts by file, files that say the same, and jobs that are gone.

    `unread` are files that hold no definitions, or such that can't be read.
    """

    texts: dict[Path, str] = field(default_factory=dict)
    same: list[Path] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)


def inside(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders that may hold definitions, by name.

    What is hidden is left alone, for example `.git`. Raises OSError.
    """
    found: list[Path] = []
    for at, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        wanted = (n for n in names if n.lower().endswith(ENDINGS) and not n.startswith("."))
        found += [Path(at, name) for name in sorted(wanted)]
        if len(found) > MOST_FILES:
            raise OSError(0, f"> {MOST_FILES}", str(folder))
    return found


def _raise(error: OSError) -> None:
    raise error


def arrange(folder: Path, jobs: Iterable[Mapping[str, Any]], shared: str, most: int) -> Arrangement:
    """Return how jobs, as `as_mapping` gives them, and a text for all would be written there.

    A file that says the same is left as it is, comments and all; a job that has its file keeps it.
    Raises TakenError, and FileError for what can't be read.
    """
    found = Arrangement()
    there: dict[str, Path] = {}
    known: dict[Path, list[Definition]] = {}
    for path in inside(folder) if folder.is_dir() else []:
        try:
            known[path] = definitions.read_all(files.text(path, most, is_utf8=True), str(path))
        except (DefinitionError, files.FileError):
            known[path] = []  # nobody writes over it
            found.unread.append(path)
            continue
        for each in known[path]:
            if each.kind == JOB:
                there.setdefault(each.name, path)
    taken = {str(path.relative_to(folder)).casefold() for path in known}
    named = set()
    for said in jobs:
        name = said["name"]
        named.add(name)
        path = there.get(name) or _free(folder, name, taken, found.unread)
        text = definitions.as_text(said)
        (wanted,) = definitions.read(text)
        before = next((each for each in known.get(path, []) if each.name == name), None)
        if before is not None and definitions.whole(before) == definitions.whole(wanted):
            found.same.append(path)
            continue
        if before is not None and len(known[path]) > 1:
            raise TakenError(str(path))
        found.texts[path] = text
    if shared:
        _arrange_shared(found, folder / SHARED, shared, known)
    found.left = [
        path
        for path, held in known.items()
        if len(held) == 1 and held[0].kind == JOB and held[0].name not in named
    ]
    found.same = [*dict.fromkeys(found.same)]
    return found


def _arrange_shared(
    found: Arrangement, path: Path, text: str, known: Mapping[Path, list[Definition]]
) -> None:
    wanted = definitions.read_all(text)
    held = known.get(path)
    if held is not None and [each.said for each in held] == [each.said for each in wanted]:
        found.same.append(path)
    elif held is not None and (not held or any(each.kind == JOB for each in held)):
        raise TakenError(str(path))
    else:
        found.texts[path] = text


def _free(folder: Path, name: str, taken: set[str], unread: Iterable[Path]) -> Path:
    """Return a file for a job that has none yet, also where capital letters count for nothing.

    Raises TakenError when that can't be read: it may be the job's, with the marks of a conflict.
    """
    stem = UNFIT.sub("-", name)[:LONGEST_STEM].strip("-.") or "job"
    file, count = f"{stem}.yaml", 1
    if folder / file in unread:
        raise TakenError(str(folder / file))
    while file.casefold() in taken or (folder / file).is_dir():
        count += 1
        file = f"{stem}-{count}.yaml"
    taken.add(file.casefold())
    return folder / file


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all; a new one is for its owner alone. Raises OSError.

    Of a link it is what the link leads to.
    """
    path = Path(os.path.realpath(path))
    try:
        _write(path, text)
    except OSError as error:  # the name of a file that is gone again helps nobody
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write(path: Path, text: str) -> None:
    mode = path.stat().st_mode & 0o777 if path.is_file() else 0o600
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(
        "w", dir=path.parent, prefix=".", suffix=".tmp", delete=False, encoding="utf-8", newline=""
    ) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(mode)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
