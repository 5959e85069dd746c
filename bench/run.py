"""kvwasi against LMDB: prints a table, writes JSON and Markdown to bench/results/.

python bench/run.py                    a million keys (about two minutes)
python bench/run.py --keys 10000 --turns 1
"""

import argparse
import json
import sys
from pathlib import Path

import harness
from engines import ENGINES
from workloads import WORKLOADS, numbered

HERE = Path(__file__).resolve().parent


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3, help="runs of each workload on each engine")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--workloads", nargs="+", choices=[w.name for w in WORKLOADS])
    parser.add_argument(
        "--directory", type=Path, default=HERE.parent / "build", help="on the disk to measure"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> int:
    options = parse()
    engines = [ENGINES[name] for name in options.engines]
    workloads = [w for w in WORKLOADS if not options.workloads or w.name in options.workloads]
    options.directory.mkdir(parents=True, exist_ok=True)
    data = numbered(options.keys)
    print(f"{data.name}; median of {options.turns} turns, time of an operation", flush=True)
    facts = harness.environment(options.directory, engines)
    measured = harness.compare(data, engines, workloads, options.turns, options.directory)
    print(harness.table(measured))
    print("  " + "; ".join(facts.values()))
    options.results.mkdir(parents=True, exist_ok=True)
    name = f"store-{options.keys}"
    whole = harness.as_json(data, measured, facts)
    (options.results / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")
    lines = [f"# {data.name}", "", harness.table(measured, markdown=True), ""]
    lines += [f"- {fact.replace('_', ' ')}: {value}" for fact, value in facts.items()]
    lines += [f"- median of {options.turns} turns, engines in turn; every result checked by hash", ""]
    (options.results / f"{name}.md").write_text("\n".join(lines))
    print(f"written: {options.results / name}.json, .md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
