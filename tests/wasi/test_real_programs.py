"""SQLite, zstd and brotli give the same on every host. Fetching and compiling them takes minutes:

KVWASI_REAL_PROGRAMS=1 pytest tests/wasi/test_real_programs.py
"""

import os
from pathlib import Path

import pytest
import real

needs_registries = pytest.mark.skipif(
    not os.environ.get("KVWASI_REAL_PROGRAMS"), reason="fetches sources: set KVWASI_REAL_PROGRAMS=1"
)


@needs_registries
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", real.REALS, ids=lambda program: program.name)
def test_the_same_on_every_host(program: real.Real, tmp_path: Path) -> None:
    sources = Path(__file__).parents[2] / "build" / "real-programs"
    lines = real.measure(sources, tmp_path, turns=1, reals=[program])
    assert [line.host for line in lines] == ["native", "shared", "exclusive", "wasmtime-py"]


def test_the_table() -> None:
    lines = [real.Line("a", "native", [1.0, 3.0, 2.0]), real.Line("a", "shared", [0.5])]
    assert real.table(lines) == "| program | native s | shared s |\n|---|---:|---:|\n| a | 2.00 | 0.50 |\n"
