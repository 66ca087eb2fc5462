"""What is wrong in a file, and which files are looked at; without what it takes to read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUFFIXES: Final = {".json": "JSON", ".yaml": "YAML", ".yml": "YAML", ".toml": "TOML"}


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong, and where; lines and columns count from 1, 0 means not known."""

    line: int
    column: int
    text: str
    is_grave: bool = True  # else it is only worth knowing

    def at(self, file: Path | str) -> str:
        """Return `path:line:column: what is wrong`, as editors read it."""
        place = "".join(f":{number}" for number in (self.line, self.column) if number)
        return f"{file}{place}: {self.text}"
