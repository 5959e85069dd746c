"""The demonstration: real data, writers killed by SIGKILL, the proof that nothing is lost, LMDB beside it."""

import argparse
import os
import pickle
import random
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import kvwasi
from kvwasi.bench import harness, tables
from kvwasi.bench.engines import Entry, Kvwasi, Lmdb
from kvwasi.bench.workloads import STORE, Dataset, flat, named, numbered
from kvwasi.formats import tree

SEED = 7973
KILLS = 8
PACKAGES = Path("/var/lib/dpkg/status")
TABLE = ("readrandom", "fillrandom", "fillsync")


def library_files(limit: int | None) -> tree.Tree:
    """Every file of the running Python's standard library; what pip has added is not part of it."""
    found = tree.scan(sysconfig.get_paths()["stdlib"])
    added = (b"site-packages/", b"dist-packages/")
    return tree.Tree([file for file in found.files if not file.key.startswith(added)][:limit], found.skipped)


def packages() -> Iterator[Entry]:
    """Every paragraph of Debian's package database, under its package's name; nothing where there is none."""
    if not PACKAGES.exists():
        return
    for paragraph in PACKAGES.read_bytes().split(b"\n\n"):
        fields = dict(
            line.split(b": ", 1) for line in paragraph.split(b"\n") if b": " in line and line[:1] != b" "
        )
        if b"Package" in fields:
            yield b"package/%b/%b" % (fields[b"Package"], fields.get(b"Architecture", b"")), paragraph


def real_data(limit: int | None) -> list[Entry]:
    entries = [(b"python/" + key, content) for key, content in tree.read(library_files(limit))]
    return entries + list(packages())[:limit]


def transactions(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """``entries`` in a random order, cut into transactions of 1 to 20; writer and judge get the same."""
    generator = random.Random(SEED)
    shuffled = list(entries)
    generator.shuffle(shuffled)
    cut: list[Sequence[Entry]] = []
    first = 0
    while first < len(shuffled):
        count = generator.choice((1, 1, 1, 2, 5, 20))
        cut.append(shuffled[first : first + count])
        first += count
    return cut


def write(path: Path, data: Path, first: int) -> None:
    """The writer: commit one transaction after the other, and say so once each is acknowledged."""
    groups = transactions(pickle.loads(data.read_bytes()))
    with kvwasi.open(path) as store:
        for number, entries in enumerate(groups[first:], first):
            if len(entries) == 1:
                store.put(*entries[0])
            else:
                store.put_many(entries)
            os.write(1, b"%d\n" % number)


class LostError(Exception):
    """The database does not hold exactly what was acknowledged."""


def judge(path: Path, groups: Sequence[Sequence[Entry]], acknowledged: int) -> int:
    """How many transactions the database holds: those ``acknowledged``, and perhaps the one in flight."""
    with kvwasi.open(path, "r") as store:
        held = harness.digest(flat(store.items()))
        for count in (acknowledged, min(acknowledged + 1, len(groups))):
            expected = sorted(entry for group in groups[:count] for entry in group)
            if held == harness.digest(flat(expected)):
                return count
        raise LostError(f"{acknowledged} transactions were acknowledged; the database holds something else")


def writer_command(path: Path, data: Path, first: int) -> list[str]:
    return [sys.executable, __file__, "--writer", str(path), str(data), str(first)]


def kill_one_writer(command: list[str], first: int, wanted: int, delay_s: float) -> int:
    """Kill a writer ``delay_s`` after its acknowledgement ``wanted``; returns how many there were in all."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        acknowledged = first
        for line in writer.stdout:
            acknowledged = int(line) + 1
            if acknowledged >= wanted:
                break
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout:  # said before it died
            acknowledged = int(line) + 1
    return acknowledged


def prove(place: Path, entries: Sequence[Entry], kills: int) -> None:
    """Load ``entries`` through writers that are killed, and look at the database after each."""
    path, data = place / "demo.kv", place / "data.pickle"
    data.write_bytes(pickle.dumps(entries))  # so that both sides have the same, whatever happens to the files
    generator = random.Random(SEED + 1)
    groups = transactions(entries)
    present = 0
    print("loaded in transactions of 1 to 20 keys by writers that are killed; each goes on where one died:")
    print("             acknowledged  found       in flight  keys, hash for hash  anything else")
    for number in range(1, kills + 1):
        wanted = max(present, len(groups) * number // (kills + 1))
        command = writer_command(path, data, present)
        acknowledged = kill_one_writer(command, present, wanted, generator.uniform(0, 0.002))
        present = judge(path, groups, acknowledged)
        keys = sum(map(len, groups[:present]))
        flight = "whole" if present > acknowledged else "absent"
        print(
            f"  SIGKILL {number}  {acknowledged:12}  all there  {flight:>9}  {keys:20}  nothing", flush=True
        )
    subprocess.run(writer_command(path, data, present), check=True, stdout=subprocess.DEVNULL)
    if judge(path, groups, len(groups)) != len(groups):
        raise LostError("the last writer's transactions are not all there")
    print(f"  the last writer is let finish: all {len(entries)} keys are there, hash for hash")


def race(data: Dataset, turns: int, directory: Path) -> None:
    """The short table against LMDB."""
    print(f"\n{data.name}: median of {turns} turns, time of an operation")
    measured = harness.compare(data, [Kvwasi, Lmdb], named(STORE, TABLE), turns, directory)
    print(tables.plain(tables.rows(measured)), end="", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, help="take only so many of the files and paragraphs")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--keys", type=int, default=200_000, help="of the second table")
    parser.add_argument("--directory", type=Path, default=Path(__file__).resolve().parent.parent / "build")
    parser.add_argument("--writer", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer:
        path, data, first = options.writer
        write(Path(path), Path(data), int(first))
        return 0
    options.directory.mkdir(parents=True, exist_ok=True)
    entries = real_data(options.limit)
    megabytes = sum(len(key) + len(value) for key, value in entries) / 1e6
    print(
        f"real data: {len(entries)} keys, {megabytes:.0f} MB: every file of this Python's standard library"
        + (" and every paragraph of the package database" if PACKAGES.exists() else ""),
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="kvwasi-demo-", dir=options.directory) as place:
        start = time.monotonic()
        prove(Path(place), entries, options.kills)
        print(f"  ({time.monotonic() - start:.0f} s)")
    print("\nagainst LMDB: same data, each commit flushed on both sides, every result compared by hash")
    race(Dataset("the data above", entries), 3, options.directory)
    race(numbered(options.keys), 3, options.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
