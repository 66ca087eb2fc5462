"""`bach`, from the shell: the short way for what scripts call often, else the whole command line.

A script may call `bach progress` a thousand times, so that takes neither Django nor click. Whatever
is not plain sailing, a wrong number for one, goes the long way, where the words for it are.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` takes as long to load as all of this
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command that the arguments name, and end with its exit code."""
    if sys.argv[1:2] == ["progress"] and is_reported(sys.argv[2:]):
        sys.exit(0)
    from daemon_app import cli

    cli.main()


def is_reported(words: list[str]) -> bool:
    """Report a run's progress; False when that was not possible."""
    from daemon_app import progress

    try:
        said = progress.from_words(*progress.split_token(words))
        if said is None:
            return False
        progress.report(said, os.environ)
    except (progress.NotInRunError, progress.TokenError, OSError):
        return False
    return True
