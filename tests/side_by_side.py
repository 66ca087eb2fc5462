"""Run shell commands at the same time and show their output one after another.

    python tests/side_by_side.py "pytest tests/cli" "pytest tests/api"

Most tests wait for processes, so that three parts take little longer than one. Exit code: 0 when
all of them ended with 0, else 1; each is run to its end.
"""

import subprocess
import sys
import tempfile


def run(commands: list[str]) -> int:
    """Run `commands`; return how many did not end with 0."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for number, command in enumerate(commands):
            # The first is seen while it runs, the others when it has ended. Not the shell's `&`:
            # what it starts is deaf to Ctrl+C, and some tests press that.
            kept = None if number == 0 else open(f"{folder}/{number}", "w+b")  # noqa: SIM115, PTH123
            process = subprocess.Popen(command, shell=True, stdout=kept, stderr=kept)
            started.append((command, process, kept))
        failed = []
        for command, process, kept in started:
            code = process.wait()
            if kept is not None:
                print(f"\n── {command}", flush=True)
                kept.seek(0)
                sys.stdout.buffer.write(kept.read())
                sys.stdout.buffer.flush()
                kept.close()
            if code:
                failed.append(f"{command} (exit code {code})")
    for each in failed:
        print(f"failed: {each}", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(1 if run(sys.argv[1:]) else 0)
