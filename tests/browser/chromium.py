"""Find a Chromium for the browser tests; as a script, get one when there is none.

First a browser of this machine, then the one that Playwright has fetched. The script, run by
`make test`, goes on: Playwright's download, Debian's package when root. It prints what it found,
or fails saying what to do.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

VARIABLE = "BACH_TEST_BROWSER"
COMMANDS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
)
MAC_APPS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
MISSING = f"""\
The browser tests need a Chromium, and there is none: none is installed on this machine, and
neither Playwright's download nor Debian's package could be had. One of these helps:

    Debian:                sudo apt-get install chromium
    Fedora:                sudo dnf install chromium
    macOS:                 brew install --cask chromium
    with network:          .venv/bin/playwright install --with-deps chromium
    one somewhere else:    {VARIABLE}=/path/to/chrome make test
    without the browser:   .venv/bin/python -m pytest
"""


def find() -> str | None:
    """Return the path of a Chromium that starts, None when there is none."""
    return next((path for path in candidates() if starts(path)), None)


def candidates() -> Iterator[str]:
    """Yield paths where a browser may be, the wanted ones first."""
    if wanted := os.environ.get(VARIABLE):
        yield wanted
        return
    yield from filter(None, map(shutil.which, COMMANDS))
    yield from MAC_APPS
    yield from fetched()


def fetched() -> Iterator[str]:
    """Yield what Playwright has downloaded, its own version first."""
    if find_spec("playwright"):
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            yield playwright.chromium.executable_path


def starts(path: str) -> bool:
    """Tell whether `path` is a browser: Ubuntu's is a script that asks for a snap."""
    if not Path(path).is_file():
        return False
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, timeout=30, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and any(character.isdigit() for character in answer.stdout)


def fetch() -> None:
    """Try to get a browser: Playwright's download, then Debian's package when root."""
    print("No Chromium on this machine; trying Playwright's download.", flush=True)
    attempt(sys.executable, "-m", "playwright", "install", "chromium")
    if find() or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print("That failed; trying Debian's package.", flush=True)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    attempt("apt-get", "update", "-q", **quiet)
    attempt("apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium", **quiet)


def attempt(*command: str, **variables: str) -> None:
    """Run `command` for at most five minutes; whether it helped is seen afterwards."""
    try:
        subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=True,
            env={**os.environ, **variables},
        )
    except (OSError, subprocess.SubprocessError) as problem:
        print(problem, flush=True)


def main() -> int:
    """Find or get a browser; return 0 when there is one."""
    if not find():
        fetch()
    path = find()
    if path:
        print(f"Browser for the tests: {path}")
        return 0
    print(MISSING, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
