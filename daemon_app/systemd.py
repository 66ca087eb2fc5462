"""What systemd is told of a service with `Type=notify`, and the unit that says so.

Without `NOTIFY_SOCKET` in the environment nothing is told, and nothing of this costs anything.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct


def notify(state: str) -> bool:
    """Tell the service manager, as sd_notify(3) does: "READY=1", "STATUS=…"; False when it can't.

    Waits a second at most for a manager that is behind, and never raises.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return False
    if address.startswith("@"):  # abstract: in no folder
        address = "\0" + address[1:]
    with contextlib.suppress(OSError):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # In the kernel: poll() calls an unconnected datagram socket writable in any case.
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 1, 0))
            sender.sendto(state.encode(), address)
        return True
    return False


def watchdog_seconds() -> float | None:
    """Return within how many seconds a sign of life is expected of this process; None: never."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
        meant = int(os.environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return microseconds / 1_000_000 if microseconds > 0 and meant == os.getpid() else None


UNIT = """\
# {file}
[Unit]
Description=BACH
Wants=time-sync.target
After=time-sync.target

[Service]
Type=notify
ExecStart={command}
{environment}Restart=always
RestartSec=2
WatchdogSec=30
TimeoutStartSec=120
TimeoutStopSec={stop_seconds}
# {why}
KillMode={kill_mode}
Delegate=yes

[Install]
WantedBy=default.target
"""


def unit(
    *,
    file: str,
    command: list[str],
    environment: dict[str, str],
    drain_seconds: int | None,
    why: str,
) -> str:
    """Return a unit file. `drain_seconds`: what running commands get at a stop; None: they go on.

    `why` explains the way of ending processes, in the reader's language.
    """
    lines = [f"Environment={_quoted(f'{k}={v}')}\n" for k, v in sorted(environment.items())]
    # With "mixed" systemd kills what is left of the commands, too; with "process" it touches none.
    return UNIT.format(
        file=file,
        command=" ".join(_quoted(word) for word in command),
        environment="".join(lines),
        stop_seconds=60 if drain_seconds is None else drain_seconds + 150,
        why=why,
        kill_mode="process" if drain_seconds is None else "mixed",
    )


def _quoted(word: str) -> str:
    """Return a word as systemd reads it: its own signs doubled, in quotes where it takes them."""
    plain = word.replace("%", "%%").replace("$", "$$")
    if plain and not set(plain) & set(" \t\"'\\;"):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
