"""Measure the launcher and its supervisors against the bare fork and exec of this machine.

python bench/supervisor.py [--runs 500] [--rounds 5] [--only starts|output|signals] [--short]
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from daemon_app import doorbell, output, supervisor

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

TICK = os.sysconf("SC_CLK_TCK")
FLOOD, GIGABYTE = 100_000_000, 1_000_000_000  # bytes
LINE = "a line of output that is as long as lines are"
FLOODS = {
    "no newline": "tr '\\0' x < /dev/zero",
    "lines": f"yes '{LINE}'",
    "JSON": f"""yes '{{"level": "info", "message": "{LINE}"}}'""",
    "reports": """yes '{"progress": 40, "label": "step 2"}'""",
}
# What notes when SIGTERM arrives, in a file; each says `ready` when it listens.
SHELL = """trap 'echo $EPOCHREALTIME > $NOTE; exit' TERM; {} echo > $NOTE.ready
while :; do sleep 1000 & wait; done"""
PYTHON = """import os, signal, sys, time
def note(number, frame):
    at = time.time()
    open(os.environ["NOTE"], "w").write(str(at))
    sys.exit()
signal.signal(signal.SIGTERM, note)
open(os.environ["NOTE"] + ".ready", "w").close()
while True: time.sleep(1000)"""
ASKED = {
    "shell": ["/bin/bash", "-c", SHELL.format("")],
    "shell amid a flood": ["/bin/bash", "-c", SHELL.format("yes &")],
    "shell with 200 children": [
        *("/bin/bash", "-c", SHELL.format("for n in {1..200}; do sleep 1000 & done;"))
    ],
    "Python": [sys.executable, "-c", PYTHON],
}
# What is asked for: seconds for 100 MB, or so many times a plain copy; MB for a gigabyte
MOST_SECONDS, MOST_TIMES, MOST_MEMORY = 0.5, 3.0, 30.0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--runs", type=int, default=500, help="of /bin/true in one round")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--only", choices=["starts", "output", "signals"])
    arguments.add_argument("--short", action="store_true", help="medians alone, as name and value")
    options = arguments.parse_args()
    rows: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        rows.setdefault(name, []).append(value)

    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        if options.only in (None, "starts"):
            bare(options.runs, note)
            with Bench() as bench:
                bench.one_by_one(options.runs // 2, note)
                bench.burst(options.runs, note)
                bench.at_once(100, note)
                bench.memory(note)
        if options.only in (None, "output"):
            with Bench() as bench:
                bench.flood(note)
                bench.gigabyte(note)
        if options.only in (None, "signals"):
            with Bench() as bench:
                for name in ASKED:
                    bench.signals(name, 200, note)
    if options.short:
        for name, values in rows.items():
            print(f"{name}\t{statistics.median(values):.2f}")
    else:
        print(f"{'':58} {'median':>9} {'least':>9} {'most':>9}")
        for name, values in rows.items():
            middle, least, most = statistics.median(values), min(values), max(values)
            print(f"{name:58} {middle:9.2f} {least:9.2f} {most:9.2f}")
        sys.exit("\n".join(missed(rows)) or None)


def missed(rows: dict[str, list[float]]) -> list[str]:
    """Say which goals the medians miss."""
    medians = {name: statistics.median(values) for name, values in rows.items()}
    found = []
    for flood in FLOODS:
        plain = medians.get(f"100 MB, {flood}: | cat >file, s")
        ours = medians.get(f"100 MB, {flood}: through a run, s")
        if plain and ours and ours > MOST_SECONDS and ours > plain * MOST_TIMES:
            found.append(f"missed: 100 MB, {flood}, in {MOST_SECONDS} s or {MOST_TIMES}x a copy")
    if medians.get(MEMORY, 0.0) > MOST_MEMORY:
        found.append(f"missed: {MEMORY} ≤ {MOST_MEMORY}")
    return found


MEMORY = "1 GB: peak memory of the supervisor, MB"


def bare(runs: int, note: Callable[[str, float], None]) -> None:
    """What the machine itself can do: this very interpreter forks and executes."""
    script = (
        "import os,sys,time\n"
        "n=int(sys.argv[1]); t=time.perf_counter(); c=sum(os.times()[:4])\n"
        "for _ in range(n):\n"
        "    pid=os.fork()\n"
        "    if pid==0: os.execv('/bin/true',['true'])\n"
        "    os.waitpid(pid,0)\n"
        "print(n/(time.perf_counter()-t),(sum(os.times()[:4])-c)/n*1000)\n"
    )
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 1)
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", script, str(runs)])
    os.close(write)
    with os.fdopen(read) as answer:
        rate, cpu = map(float, answer.read().split())
    os.waitpid(pid, 0)
    note("machine: fork + exec /bin/true, one after another, per s", rate)
    note("machine: CPU of one fork + exec + exit, ms", cpu)


class Bench:
    """A launcher with a folder of its own, and the bells that its supervisors ring."""

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="bach-bench-"))
        self.runtime = doorbell.runtime_dir(self.folder)
        self.bell = doorbell.Bell(self.runtime, "runner")
        self.launcher = supervisor.Launcher(self.runtime)
        self.count = 0
        self.ended: dict[int, dict[str, Any]] = {}
        self.started: dict[int, float] = {}
        self.launch(["/bin/true"])
        self.wait(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.launcher.close()
        self.bell.close()
        # Only at the very end: ext4 makes files slowly for a minute after many were removed.
        atexit.register(shutil.rmtree, self.folder)

    def launch(self, argv: list[str], **more: Any) -> int:
        self.count += 1
        environment = {f"VARIABLE_{number}": "value" * 8 for number in range(15)}
        environment["PATH"] = os.defpath
        self.launcher.launch(
            {
                "run": self.count,
                "fence": 1,
                "folder": str(self.folder / "runs" / str(self.count)),
                "argv": argv,
                "env": environment,
                "runtime": str(self.runtime),
                "timeout": 300,
                **more,
            }
        )
        return self.count

    def wait(self, ended: int) -> None:
        while len(self.ended) < ended:
            for payload in self.bell.wait(20):
                news = json.loads(payload)
                if news["op"] == "ended":
                    self.ended[news["run"]] = news["result"]
                elif news["op"] == "started":
                    self.started[news["run"]] = time.perf_counter()

    def cpu(self) -> float:
        """CPU seconds of the zygote, the supervisors and their commands, and of us."""
        total = sum(os.times()[:2])
        for pid in self.ours():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / TICK
        return total

    def ours(self) -> list[int]:
        zygote = self.launcher.zygote
        found = [zygote]
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(path.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == zygote:
                found.append(int(path.parent.name))
        return found

    def one_by_one(self, runs: int, note: Callable[[str, float], None]) -> None:
        delays = []
        for _ in range(runs):
            wall = time.time()
            run = self.launch(["/bin/true"])
            self.wait(run)
            delays.append((self.ended[run]["started_at"] - wall) * 1000)
        note("one: launch() to exec, p50 ms", statistics.median(delays))
        note("one: launch() to exec, p95 ms", sorted(delays)[int(runs * 0.95)])

    def burst(self, runs: int, note: Callable[[str, float], None]) -> None:
        before, begin = self.cpu(), time.perf_counter()
        for _ in range(runs):
            self.launch(["/bin/true"])
        self.wait(self.count)
        seconds = time.perf_counter() - begin
        note(f"{runs} at once: runs of /bin/true per s", runs / seconds)
        note(f"{runs} at once: CPU per run, all of it, ms", (self.cpu() - before) / runs * 1000)
        note(f"{runs} at once: supervisors afterwards", len(self.ours()) - 1)

    def at_once(self, runs: int, note: Callable[[str, float], None]) -> None:
        wall = time.time()
        first = self.count + 1
        for _ in range(runs):
            self.launch(["/bin/sh", "-c", "exec sleep 2"])
        self.wait(self.count)
        delays = sorted(
            (self.ended[run]["started_at"] - wall) * 1000 for run in range(first, self.count + 1)
        )
        note(f"{runs} that last: launch() to exec, p50 ms", delays[runs // 2])
        note(f"{runs} that last: launch() to exec, max ms", delays[-1])

    def memory(self, note: Callable[[str, float], None]) -> None:
        sizes = []
        for pid in self.ours()[1:]:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            found = dict(re.findall(r"^(Rss|Pss): +(\d+)", text, re.MULTILINE))
            sizes.append([int(found["Rss"]), int(found["Pss"])])
        note("memory: RSS of a supervisor, MB", statistics.median(rss for rss, _ in sizes) / 1024)
        note("memory: PSS of a supervisor, MB", statistics.median(pss for _, pss in sizes) / 1024)

    def signals(self, name: str, runs: int, note: Callable[[str, float], None]) -> None:
        """How long it takes from a wish for room to the signal's arrival in the command."""
        delays = []
        for _ in range(runs):
            told = self.folder / "note"
            ready = self.folder / "note.ready"
            environment = {"PATH": os.defpath, "NOTE": str(told)}
            run = self.launch(ASKED[name], env=environment)
            while not ready.exists():
                time.sleep(0.002)
            time.sleep(0.02)
            asked = time.time()
            supervisor.request_stop(self.folder / "runs" / str(run), "displace", 1)
            self.wait(run)
            delays.append((float(told.read_text()) - asked) * 1000)
            assert self.ended[run]["outcome"] == "displaced"
            told.unlink()
            ready.unlink()
        delays.sort()
        for share in (50, 95, 99):
            at = min(runs - 1, runs * share // 100)
            note(f"asked for room, {name}: to the signal, p{share} ms", delays[at])

    def flood(self, note: Callable[[str, float], None]) -> None:
        for name, endless in FLOODS.items():
            shell = f"{endless} 2>/dev/null | head -c {FLOOD}"
            begin = time.perf_counter()
            os.system(f"({shell}) | cat > {self.folder}/plain")
            note(f"100 MB, {name}: | cat >file, s", time.perf_counter() - begin)
            (self.folder / "plain").unlink()
            begin = time.perf_counter()
            self.produce(shell, FLOOD)
            note(f"100 MB, {name}: through a run, s", time.perf_counter() - begin)

    def gigabyte(self, note: Callable[[str, float], None]) -> None:
        begin = time.perf_counter()
        run = self.produce(f"yes '{LINE}' 2>/dev/null | head -c {GIGABYTE}", GIGABYTE)
        note("1 GB: through a run, s", time.perf_counter() - begin)
        text = Path(f"/proc/{self.ended[run]['pid']}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+)", text, re.MULTILINE)
        assert found
        note(MEMORY, int(found[1]) / 1024)

    def produce(self, shell: str, size: int) -> int:
        """Run what writes so many bytes, and see that each is kept or counted; return the run."""
        run = self.launch(["/bin/sh", "-c", shell])
        self.wait(run)
        folder = self.folder / "runs" / str(run)
        result = self.ended[run]
        assert result["output_bytes"] == output.size(folder) == size
        assert result["dropped_bytes"] == output.dropped(folder)
        return run


if __name__ == "__main__":
    main()
