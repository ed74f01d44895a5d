"""How much of a collection of runs is read: artefacts by kind and state, as a table or JSON.

    python benchmarks/states.py FOLDER_OF_RUNS [--json]

Each folder below FOLDER_OF_RUNS is one run. Recognisable is an artefact that some kind claims and
that is not passed over by design (pictures, optimizer state, pickles, other runs, empty files).
Exit status 1 if less than 97 % of the recognisable artefacts are read or partly read, or if a run
could not be read for a reason of our own.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
STATES = ("read", "partial", "damaged", "unknown", "skipped")
TARGET = 0.97


def main() -> int:
    from ftdoctor.errors import UnreadableRunError
    from ftdoctor.read import read_run

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    damaged: list[str] = []
    unreadable: list[str] = []
    crashed: list[str] = []
    runs = sorted(path for path in options.folder.iterdir() if path.is_dir())
    for path in runs:
        try:
            run = read_run(path)
        except UnreadableRunError as error:
            unreadable.append(str(error))
            continue
        except Exception:  # what the table is to find
            crashed.append(f"{path.name}: {traceback.format_exc(limit=-1)}")
            continue
        for artifact in run.artifacts:
            state = str(artifact.state)
            if artifact.size == 0 and state == "damaged":
                state = "skipped"
            counts[artifact.kind or "-", state] += 1
            if state == "damaged":
                damaged.append(f"{path.name}/{artifact.path}: {artifact.reason}")
    good = sum(n for (_, state), n in counts.items() if state in ("read", "partial"))
    bad = sum(n for (_, state), n in counts.items() if state == "damaged")
    share = good / max(1, good + bad)
    if options.json:
        table = {kind: {s: counts[kind, s] for s in STATES if counts[kind, s]}
                 for kind in sorted({kind for kind, _ in counts})}  # fmt: skip
        print(json.dumps({"runs": len(runs), "share": share, "kinds": table, "damaged": damaged,
                          "unreadable": unreadable, "crashed": crashed}))  # fmt: skip
    else:
        print_table(counts)
        print(
            f"\n{len(runs)} runs: {good} of {good + bad} recognisable artefacts read ({share:.1%})"
        )
        for title, lines in (("damaged", damaged), ("no run", unreadable), ("crashed", crashed)):
            print(*(f"{title}: {line}" for line in lines), sep="\n")
    return int(share < TARGET or bool(crashed))


def print_table(counts: Counter[tuple[str, str]]) -> None:
    print(f"{'kind':<22}" + "".join(f"{state:>9}" for state in STATES))
    for kind in sorted({kind for kind, _ in counts}):
        cells = (counts[kind, state] for state in STATES)
        print(f"{kind:<22}" + "".join(f"{cell or '':>9}" for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
