"""What the jobs of a round execute: it notes in the ledger that it has begun, and that it ends.

    python -I -S command.py LEDGER SECONDS CODES BYTES

CODES are exit codes by attempt ("1,0": the first attempt fails); the last one goes for all that
follow. One write for each line of the ledger, to a file opened for appending: lines of many
processes never mix. Needs nothing of the product but the variables that every command gets.
"""

import os
import sys
import time


def main() -> int:
    """Write the start, live for a while, write the end; return the exit code."""
    ledger, seconds, codes, size = sys.argv[1:5]
    attempt = os.environ["BACH_ATTEMPT"]
    told = codes.split(",")
    code = int(told[min(int(attempt), len(told)) - 1])
    book = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    who = " ".join(
        (os.environ["BACH_RUN_ID"], os.environ["BACH_JOB"], os.environ["BACH_DUE"], attempt)
    )

    def note(what: str) -> None:
        os.write(book, f"{who} {os.getpid()} {time.time_ns()} {what}\n".encode())

    note("start")
    half = int(size) // 2
    say(half)
    time.sleep(float(seconds))
    say(int(size) - half)
    note(f"end {code} {size}")
    return code


def say(size: int) -> None:
    """Write exactly `size` bytes to stdout, in lines where there is room for them."""
    line = b"the quick brown fox jumps over the lazy dog\n"
    left = memoryview((line * (size // len(line) + 1))[:size])
    while left:
        left = left[os.write(1, left) :]


if __name__ == "__main__":
    sys.exit(main())
