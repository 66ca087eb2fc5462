"""The language of the command line: German, or English where the terminal asks for it.

The catalogue is Django's; reading it needs no Django, so that `bach --help` answers at once.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

# In the order in which they count; they describe the terminal and are no settings of ours.
VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
# Beside manage.py in a checkout, in the package once installed.
CATALOGUES = (Path(__file__).parents[2] / "locale", Path(__file__).parents[1] / "locale")


def preferred(environment: Mapping[str, str]) -> str:
    """Return "en" when the first of VARIABLES that is set begins so, else "de".

    "C" and "POSIX" ask for no language, and so get the product's own.

    >>> preferred({"LANG": "en_GB.UTF-8"}), preferred({"LC_ALL": "C", "LANG": "en_GB"})
    ('en', 'de')
    """
    wanted = next((environment[name] for name in VARIABLES if environment.get(name)), "")
    return "en" if re.split(r"[_.@:-]", wanted.lower())[0] == "en" else "de"


@cache
def current() -> str:
    """Return the language of this process: "de" or "en"."""
    return preferred(os.environ)


def gettext(message: str) -> str:
    """Return `message` in the current language."""
    return _catalogue().gettext(message)


def ngettext(one: str, many: str, n: int) -> str:
    """Return the form for `n` in the current language."""
    return _catalogue().ngettext(one, many, n)


def pgettext(context: str, message: str) -> str:
    """Return `message` as it is said in this `context`."""
    return _catalogue().pgettext(context, message)


def gettext_noop(message: str) -> str:
    """Mark `message` for the catalogue and return it as it is."""
    return message


@cache
def _catalogue() -> NullTranslations:
    for folder in CATALOGUES if current() == "de" else ():
        file = folder / "de/LC_MESSAGES/django.mo"
        if file.is_file():
            with file.open("rb") as compiled:
                return GNUTranslations(compiled)
    return NullTranslations()
