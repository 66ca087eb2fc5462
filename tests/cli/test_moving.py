"""Jobs move in from a terminal."""

import json
from pathlib import Path

from daemon_app.cli.outcome import Code
from tests.cli.bach import Bach

CRONTAB = "# Backup\n0 3 * * * tar c .\n@reboot \x1b[2Jx\nfoo\n"


def test_first_it_is_only_told_then_it_comes_once(bach: Bach, folder: Path) -> None:
    bach.environment["LANG"] = "en_GB.UTF-8"
    bach.migrate()
    file = folder / "cron"
    file.write_text(CRONTAB)

    dry = bach("import", "crontab", str(file))
    done = bach("import", "crontab", str(file), "--apply", "--active")
    again = json.loads(bach("import", "crontab", str(file), "--apply", "--json").stdout)

    assert dry.returncode == done.returncode == Code.OK
    assert "--apply" in dry.stdout
    assert "New: 1. There already: 0. Can't come: 2." in dry.stdout
    assert "New: 1. There already: 0. Can't come: 2." in done.stdout
    assert "\x1b" not in dry.stdout
    assert "every day at 03:00" in dry.stdout
    assert (again["new"], again["known"], again["refused"]) == (0, 1, 2)
    assert again["jobs"][0]["id"]
    assert again["jobs"][2]["remarks"][0]["code"] == "no_entry"
