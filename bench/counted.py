"""Instructions an operation, counted by callgrind: the same whatever else the machine does.

The whole way is counted, from Python's loop on through the code that wasmtime has compiled; the kernel's part
is not. This file is the program that runs under valgrind.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import compiled
from engines import ENGINES

from kvwasi.bench.engines import Engine, Kvwasi
from kvwasi.bench.workloads import GET_BATCH, SEEK_ENTRIES, Dataset, numbered

KEYS = 20_000
PART = 4000
HEADER = Path("/usr/include/valgrind/callgrind.h")
Operation = tuple[int, Callable[[Engine, Dataset], object]]

OPERATIONS: dict[str, Operation] = {
    "get": (PART, lambda engine, data: engine.get_each(data.reads[:PART])),
    "get_many": (PART, lambda engine, data: engine.get_batches(data.reads[:PART], GET_BATCH)),
    "scan": (KEYS, lambda engine, data: collections.deque(engine.scan(), maxlen=0)),
    "scan back": (KEYS, lambda engine, data: collections.deque(engine.scan(reverse=True), maxlen=0)),
    "seek": (PART // 10, lambda engine, data: engine.seek_each(data.reads[: PART // 10], SEEK_ENTRIES)),
    "put": (PART, lambda engine, data: engine.put_in_transaction(data.overwrites[:PART])),
    "put_many": (PART, lambda engine, data: engine.put_batch(data.overwrites[PART : 2 * PART])),
    "synced put": (PART // 10, lambda engine, data: engine.put_each(data.overwrites[: PART // 10])),
    "delete": (PART, lambda engine, data: engine.delete_in_transaction(data.reads[-PART:])),
}


def available() -> bool:
    """Whether this machine can count."""
    return shutil.which("valgrind") is not None and HEADER.exists() and sys.platform == "linux"


def key() -> str:
    """Counts are comparable where this is the same."""
    done = subprocess.run([*compiled.compiler(), "--version"], capture_output=True, text=True)
    return f"{done.stdout.splitlines()[0]}; Python {sys.version.split()[0]}; {Kvwasi.version()}"


def count(directory: Path, engine: str = Kvwasi.name) -> dict[str, float]:
    """Instructions an operation of an engine."""
    compiled.counted()  # compiled before, not under valgrind
    if engine == "guest-native":
        compiled.build_engine()
    with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as place:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={place}/out"]
        done = subprocess.run(
            [*command, sys.executable, __file__, place, engine],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"valgrind ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return dict(_read(sorted(Path(place).glob("out.*"))))


def _read(dumps: Sequence[Path]) -> list[tuple[str, float]]:
    """Name and instructions an operation of each dump."""
    found = []
    for dump in dumps:
        text = dump.read_text()
        name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
        total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
        if name and total:
            found.append((name[1], int(total[1]) / OPERATIONS[name[1]][0]))
    return found


def main() -> None:
    """Run each operation between its marks."""
    place, marks = Path(sys.argv[1]), compiled.counted()
    data = numbered(KEYS)
    _ = data.reads, data.overwrites
    engine = ENGINES[sys.argv[2]](place)
    engine.put_batch(data.entries)
    for name, (_, run) in OPERATIONS.items():
        if name != "delete":
            run(engine, data)  # so that Python has specialised its code
        marks.counted_begin()
        run(engine, data)
        marks.counted_end(name.encode())
    engine.close()


if __name__ == "__main__":
    main()
