"""Blocks out of arbitrary bytes, under sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "kvwasi" / "series" / "native"
BLOCKS = int(os.environ.get("KVWASI_FUZZ_BLOCKS", "1500"))  # more: a longer run


@pytest.fixture(scope="session")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = next((name for name in ("gcc", "clang", "cc") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("no C compiler with sanitizers")
    program = tmp_path_factory.mktemp("fuzz") / "fuzz_block"
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [HERE / "fuzz" / "fuzz_block.c", NATIVE / "block.c"]
    command = [compiler, *flags, *sanitizers, f"-I{NATIVE}", *sources, "-o", program]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "sanitize" in done.stderr:
        pytest.skip("the C compiler has no sanitizers")
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("seed", range(2))
def test_arbitrary_blocks(fuzzer: Path, seed: int) -> None:
    done = subprocess.run([fuzzer, str(seed), str(BLOCKS)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    taken, refused = (int(word) for word in done.stdout.split())
    assert taken > BLOCKS and refused > 20 * BLOCKS  # neither all right nor all nonsense
