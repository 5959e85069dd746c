"""Arbitrary arguments to every call, under sanitizers.

With the address sanitizer the calls to the OS are the C library's, which it checks; with that for undefined
behaviour alone they are the bare ones that users get.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "kvwasi" / "wasi" / "native"
SEEDS = int(os.environ.get("KVWASI_FUZZ_SEEDS", "4"))  # more: a longer run
CALLS = 40_000


@pytest.fixture(
    scope="session",
    params=[("address,undefined", []), ("undefined", []), ("address,undefined", ["-DKVW_PORTABLE"])],
    ids=["address", "undefined", "portable"],
)
def fuzzer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data plane and the driver, compiled natively with sanitizers."""
    compiler = next((name for name in ("gcc", "clang", "cc") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("no C compiler with sanitizers")
    program = tmp_path_factory.mktemp("fuzz") / "fuzz_calls"
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]
    checks, defined = request.param
    flags += ["-DKVW_BEHIND_WRITE_MIN=200u", *defined]
    sanitizers = [f"-fsanitize={checks}", "-fno-sanitize-recover=all"]
    sources = [str(HERE / "fuzz" / "fuzz_calls.c"), *map(str, sorted(NATIVE.glob("*.c")))]
    command = [compiler, *flags, *sanitizers, f"-I{NATIVE}", *sources, "-o", str(program), "-ldl", "-pthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "sanitize" in done.stderr:
        pytest.skip("the C compiler has no sanitizers")
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("seed", range(SEEDS))
def test_arbitrary_arguments(fuzzer: Path, tmp_path: Path, seed: int) -> None:
    for name in ("shared", "exclusive", "read-only"):
        (tmp_path / name / "dir").mkdir(parents=True)
        (tmp_path / name / "a").write_bytes(b"x" * 10_000)
    (tmp_path / "secret").write_bytes(b"secret")
    done = subprocess.run(
        [fuzzer, tmp_path, str(seed), str(CALLS)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    calls, succeeded, kinds = (int(word) for word in done.stdout.split())
    assert calls == CALLS
    assert succeeded > CALLS // 20  # the arguments are not all nonsense
    assert kinds >= 12
    assert sorted(os.listdir(tmp_path)) == ["exclusive", "read-only", "secret", "shared"]
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert sorted(os.listdir(tmp_path / "read-only")) == ["a", "dir"]
    assert (tmp_path / "read-only" / "a").read_bytes() == b"x" * 10_000
