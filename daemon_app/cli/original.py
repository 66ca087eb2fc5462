"""What the original BACH's command line had: help on a topic, and commands that come later."""

from typing import Final

from daemon_app.cli.language import gettext as _

_SESSIONS: Final = _("This version starts no sessions yet.")
_RECURRING: Final = _("This version has no recurring tasks yet.")
_CHAINS: Final = _("This version has no chains yet.")
_PROMPTS: Final = _("This version has no prompts yet.")
_BACKUPS: Final = _("This version makes no backups yet.")
_FOLDERS: Final = _("This version has no directory scanner; a job can run one.")

# Commands, and topics that were none, by the group they would belong to.
LATER_OF_DAEMON: Final = {"session": _SESSIONS}
LATER: Final = {
    "backup": _BACKUPS,
    "chain": _CHAINS,
    "dirscan": _FOLDERS,
    "prompt": _PROMPTS,
    "prompt-generator": _PROMPTS,
    "recurring": _RECURRING,
}
# Topics that are commands here, by another name.
TOPICS: Final = {"wartung": ("daemon",)}


def with_topic(words: list[str]) -> list[str]:
    """Return a command line as it is understood here: `--help import` asks for `import --help`."""
    if len(words) > 1 and words[0] in {"--help", "-h"} and not words[1].startswith("-"):
        return [*TOPICS.get(words[1], words[1:2]), *words[2:], "--help"]
    return words
