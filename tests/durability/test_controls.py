"""A suite that finds nothing proves nothing: planted bugs, each of which must be caught."""

import subprocess
import sys
from pathlib import Path

import pytest

from kvwasi.crashcheck.campaign import Outcome, Plan, run_plan
from kvwasi.crashcheck.controls import TRACE_CONTROLS

GUEST = Path(__file__).resolve().parents[2] / "guest-db"
SEED = 3


def caught(outcome: Outcome) -> int:
    return sum(violation.counted for violation in outcome.violations)


@pytest.mark.parametrize(
    ("control", "mode", "workload"),
    [
        ("no-flush", "commit", "single"),
        ("no-flush", "none", "mixed"),
        ("no-flush", "interval", "groups"),
        ("no-flush", "commit", "tables"),
        ("no-flush", "commit", "copies"),
        ("no-barrier", "commit", "large"),
        ("no-barrier", "commit", "compaction"),
        ("ignored-failure", "commit", "single"),
        ("ignored-failure", "none", "mixed"),
    ],
)
def test_a_planted_bug_of_the_storage_is_caught(control: str, mode: str, workload: str) -> None:
    outcome = run_plan(Plan("kvwasi", mode, workload, SEED, control=control, states=150, second=0))
    assert caught(outcome) > 0


def test_every_control_is_tested() -> None:
    marks = test_a_planted_bug_of_the_storage_is_caught.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(TRACE_CONTROLS)


NO_CHECKSUM = """
#define kv_xxh64 kv_xxh64_of_all
#include "checksum.c"
#undef kv_xxh64
/* Of records, whose checksums have a seed, no byte counts. */
uint64_t kv_xxh64(const void *data, size_t length, uint64_t seed) {
    return seed == 0 ? kv_xxh64_of_all(data, length, 0) : seed * UINT64_C(0x9E3779B97F4A7C15);
}
"""
RUN = """
import sys
from kvwasi.engine import _engine
assert _engine.module_compile(open(sys.argv[1], "rb").read())
from kvwasi.crashcheck.campaign import Plan, run_plan
outcome = run_plan(Plan("kvwasi", sys.argv[2], "long_keys", int(sys.argv[3]), states=300, second=0))
assert outcome.events and not outcome.errors, outcome  # without power cuts all is well
print(sum(violation.counted for violation in outcome.violations))
"""


@pytest.mark.timeout(300)
def test_an_engine_that_skips_its_checksums_is_caught(tmp_path: Path) -> None:
    if not GUEST.exists():
        pytest.skip("not in a checkout")
    (tmp_path / "no_checksum.c").write_text(NO_CHECKSUM)
    sources = [str(path) for path in sorted((GUEST / "src").glob("*.c")) if path.name != "checksum.c"]
    include = ["-I", str(GUEST / "include"), "-I", str(GUEST / "src")]
    compiler = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-mexec-model=reactor"]
    flags = ["-std=gnu11", "-O1", "-DNDEBUG", "-mbulk-memory", "-msimd128", "-Wl,-z,stack-size=262144"]
    wasm = tmp_path / "kv.wasm"
    subprocess.run(
        [*compiler, *flags, *include, *sources, str(tmp_path / "no_checksum.c"), "-o", str(wasm)],
        check=True,
        timeout=200,
    )
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(wasm), "commit", str(SEED)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


@pytest.mark.parametrize("control", ["no-flush", "no-barrier"])
def test_a_planted_bug_beneath_lmdb_is_caught(control: str) -> None:
    pytest.importorskip("lmdb")
    outcome = run_plan(Plan("lmdb", "default", "single", SEED, control=control, states=150))
    assert sum(violation.created and violation.level != "L5" for violation in outcome.violations) > 0
