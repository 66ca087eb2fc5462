"""From the lines of a run to the table for people: the sum, and the worst round, never a mean."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from faults.judge import COUNTERS

Line = dict[str, Any]


def lines(file: Path) -> list[Line]:
    """Return the lines of a results file."""
    none: Line = dict.fromkeys(COUNTERS, 0)
    return [none | json.loads(text) for text in file.read_text().splitlines() if text.strip()]


def markdown(found: Iterable[Line]) -> str:
    """Return the table: one row for each experiment, one for all, and the worst round."""
    rounds = list(found)
    if not rounds:
        return "No rounds yet."
    head = ["experiment", "rounds", "faults", "due", *COUNTERS, "late p99 (worst)", "back (worst)"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    names = list(dict.fromkeys(line["experiment"] for line in rounds))
    of = {name: [line for line in rounds if line["experiment"] == name] for name in names}
    rows.extend(_row(name, played) for name, played in of.items())
    rows.append(_row("**all**", rounds))
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    worst = max(rounds, key=badness)
    wrong = {counter: worst[counter] for counter in COUNTERS if worst[counter]}
    told = ", ".join(f"{counter} {count}" for counter, count in wrong.items()) or "every counter 0"
    kinds: Counter[str] = Counter()
    for line in rounds:
        kinds.update(line["faults"])
    struck = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    late = worst["T"]
    return (
        f"{text}\n\nWorst round: {worst['experiment']}, seed {worst['seed']} ({worst['product']}): "
        f"{told}; late p50 {late['p50']} s, p99 {late['p99']} s, max {late['max']} s.\n\n"
        f"Faults: {struck}."
    )


def badness(line: Line) -> tuple[int, float]:
    """Return what makes a round worse than another: what it lost, then how late it was."""
    return sum(line[counter] for counter in COUNTERS), line["T"]["max"]


def _row(name: str, rounds: list[Line]) -> list[str]:
    return [
        name,
        str(len(rounds)),
        str(sum(sum(line["faults"].values()) for line in rounds)),
        str(sum(line["E"] for line in rounds)),
        *(str(sum(line[counter] for line in rounds)) for counter in COUNTERS),
        f"{max(line['T']['p99'] for line in rounds):.2f} s",
        f"{max(line['figures'].get('back', 0.0) for line in rounds):.1f} s",
    ]
