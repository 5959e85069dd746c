"""What a command costs from a cold shell: a process that starts, reads one key and ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kvwasi
from kvwasi.bench.harness import Measurement

KEYS = 1000
PYTHON = "import sys"
LMDB = """
import lmdb, sys
with lmdb.open(sys.argv[1], subdir=False) as environment:
    sys.stdout.buffer.write(environment.begin().get(b"key-500"))
"""


def measure(turns: int, directory: Path) -> list[Measurement]:
    """Milliseconds of ``kvwasi get``, of Python alone, and of the like in py-lmdb; in turn."""
    import lmdb

    entries = [(b"key-%d" % number, b"value-%d" % number) for number in range(KEYS)]
    with tempfile.TemporaryDirectory(prefix="kvwasi-bench-", dir=directory) as place:
        database, other = f"{place}/cold.kv", f"{place}/cold.lmdb"
        with kvwasi.open(database) as store:
            store.put_many(entries)
        with lmdb.open(other, subdir=False) as environment, environment.begin(write=True) as transaction:
            for key, value in entries:
                transaction.put(key, value)
        command = str(Path(sys.executable).with_name("kvwasi"))
        commands = {
            "kvwasi": ([command, "get", database, "key-500"], b"value-500"),
            "lmdb": ([sys.executable, "-c", LMDB, other], b"value-500"),
            "python": ([sys.executable, "-c", PYTHON], b""),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(turns):
            for name, (arguments, expected) in commands.items():
                start = time.perf_counter()
                done = subprocess.run(arguments, capture_output=True, check=True)
                times[name].append((time.perf_counter() - start) * 1e3)
                if done.stdout != expected:
                    raise RuntimeError(f"{name}: printed {done.stdout!r}")
    what = "one get from a cold shell: kvwasi get, a line of py-lmdb, Python that does nothing"
    return [Measurement("cold-get", what, name, 1, values, "ms") for name, values in times.items()]
