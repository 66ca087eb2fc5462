"""The icons of the pages: one SVG sprite, built once per process from the lucide package.

A page refers to a symbol of the sprite, so an icon costs one short element and no parsing.
"""

import hashlib
from functools import cache
from importlib import resources
from io import BytesIO
from xml.etree import ElementTree as ET
from zipfile import ZipFile

SVG = "{http://www.w3.org/2000/svg}"

# Every icon in use. A value adds attributes to the symbol: signs that must be read at twelve
# pixels are drawn bolder, transport buttons are filled.
BOLD = {"stroke-width": "3"}
FILLED = {"fill": "currentColor"}
ICONS: dict[str, dict[str, str]] = {
    "activity": {},
    "archive": {},
    "arrow-down-to-line": {},
    "arrow-left": {},
    "ban": {},
    "bell": {},
    "bell-off": {},
    "brush-cleaning": {},
    "calendar-clock": {},
    "calendar-days": {},
    "case-sensitive": {},
    "check": BOLD,
    "chevron-down": {},
    "chevron-left": {},
    "chevron-right": {},
    "chevron-up": {},
    "chevrons-up": {},
    "circle-question-mark": BOLD,
    "circle-user": {},
    "clock": {},
    "clock-alert": {},
    "container": {},
    "columns-3": {},
    "contrast": {},
    "copy": {},
    "corner-down-left": {},
    "cpu": {},
    "database": {},
    "download": {},
    "eye": {},
    "ellipsis": FILLED,
    "file-text": {},
    "folder": {},
    "folder-sync": {},
    "gauge": {},
    "gpu": {},
    "hand": {},
    "hard-drive": {},
    "heart-pulse": {},
    "history": {},
    "hourglass": {},
    "house": {},
    "info": {},
    "key-round": {},
    "keyboard": {},
    "languages": {},
    "layout-template": {},
    "leaf": {},
    "link": {},
    "list": {},
    "list-ordered": {},
    "lock": {},
    "log-out": {},
    "maximize-2": {},
    "memory-stick": {},
    "message-square": {},
    "moon": {},
    "package": {},
    "pause": FILLED,
    "pencil": {},
    "play": FILLED,
    "plus": {"stroke-width": "2.6"},
    "power": {},
    "rotate-ccw": {},
    "scroll-text": {},
    "search": {},
    "skip-forward": {},
    "settings-2": {},
    "sliders-horizontal": {},
    "square": FILLED,
    "sun": {},
    "table": {},
    "terminal": {},
    "text-wrap": {},
    "timer": {},
    "trash-2": {},
    "triangle-alert": {},
    "unplug": {},
    "user-check": {},
    "users": {},
    "vault": {},
    "x": BOLD,
}


@cache
def sprite() -> bytes:
    """Return the sprite: one `<symbol>` per icon, named as in lucide."""
    ET.register_namespace("", SVG.strip("{}"))
    root = ET.Element(f"{SVG}svg")
    packed = resources.files("lucide").joinpath("lucide.zip").read_bytes()
    with ZipFile(BytesIO(packed)) as drawings:
        for name, tweak in ICONS.items():
            drawing = ET.fromstring(drawings.read(f"{name}.svg"))  # noqa: S314 - a package we pin
            symbol = ET.SubElement(
                root,
                f"{SVG}symbol",
                {
                    "id": name,
                    "viewBox": "0 0 24 24",
                    "fill": "none",
                    "stroke": "currentColor",
                    "stroke-width": "2.2",
                    "stroke-linecap": "round",
                    "stroke-linejoin": "round",
                    **tweak,
                },
            )
            symbol.extend(drawing)
    return ET.tostring(root)


@cache
def fingerprint() -> str:
    """Return what changes in the sprite's address when the sprite changes."""
    return hashlib.sha256(sprite()).hexdigest()[:12]
