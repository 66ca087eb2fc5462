"""Strike the product and count what it loses: `python -m faults [--rounds 200] [--seed 7]`.

Each round prints one JSON line; a round that went wrong is kept and can be played again by its
experiment and seed. See docs/faults.md.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from faults import experiments, table
from faults.arena import play
from faults.judge import COUNTERS

RESULTS = Path("test-results/faults")


def main() -> int:
    """Play rounds; return 1 when a counter of one is not zero."""
    asked = argparse.ArgumentParser(prog="python -m faults", description=__doc__.splitlines()[0])
    asked.add_argument("--rounds", type=int, default=0, help="how many; 0: each experiment once")
    asked.add_argument("--minutes", type=float, default=0, help="no new round after so long")
    asked.add_argument("--seed", type=int, default=1, help="of the first round; then one more each")
    asked.add_argument("--only", default="", help=f"of: {', '.join(experiments.ALL)}")
    asked.add_argument("--tier", choices=("short", "long"), default="short")
    asked.add_argument("--results", type=Path, default=RESULTS / "results.jsonl")
    asked.add_argument("--artefacts", type=Path, default=RESULTS)
    asked.add_argument("--table", action="store_true", help="only print the results as a table")
    options = asked.parse_args()
    if options.table:
        print(table.markdown(table.lines(options.results)))
        return 0
    names = [name for name in options.only.split(",") if name] or list(experiments.ALL)
    if unknown := set(names) - experiments.ALL.keys():
        asked.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(experiments.ALL)}")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    begun, wrong = time.monotonic(), 0
    for number in range(options.rounds or len(names)):
        if options.minutes and time.monotonic() - begun > options.minutes * 60:
            break
        experiment = experiments.ALL[names[number % len(names)]]
        if reason := experiment.impossible():
            print(f"SKIPPED {experiment.name}: {reason}", file=sys.stderr, flush=True)
            continue
        line = play(
            experiment.name,
            experiment.act,
            options.seed + number // len(names),
            long=options.tier == "long",
            artefacts=options.artefacts,
            parallel=experiment.parallel,
            before=experiment.before,
        )
        text = json.dumps(line)
        print(text, flush=True)
        with options.results.open("a") as file:
            file.write(text + "\n")
        wrong += any(line[counter] for counter in COUNTERS)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
