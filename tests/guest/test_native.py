"""The engine's C unit tests: natively under ASan and UBSan, and as WebAssembly on our host."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[2] / "guest-db"


def sanitizing_compiler(directory: Path) -> str | None:
    """A C compiler that links programs with both sanitizers, or None."""
    source = directory / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if not name or not shutil.which(name):
            continue
        program = str(directory / "probe")
        command = [name, "-fsanitize=address,undefined", str(source), "-o", program]
        if subprocess.run(command, capture_output=True).returncode:
            continue
        if subprocess.run([program], capture_output=True).returncode == 0:
            return name
    return None


@pytest.mark.timeout(400)
def test_c_unit_tests_pass_under_sanitizers(tmp_path: Path) -> None:
    compiler = sanitizing_compiler(tmp_path)
    if compiler is None or not shutil.which("make"):
        pytest.skip("no C compiler with ASan and UBSan here")
    make = ["make", "-C", str(GUEST), f"CC={compiler}", f"BUILD={tmp_path}", "-j2"]
    run = subprocess.run([*make, "test"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert "test_crash" in run.stdout
    run = subprocess.run([*make, "fuzz", "SECONDS=5"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert run.stderr.count("no finding") == 2


@pytest.mark.timeout(400)
@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_the_same_tests_pass_as_webassembly(tmp_path: Path) -> None:
    compiler = f"{sys.executable} -m ziglang cc"
    command = ["make", "-C", str(GUEST), f"CC={compiler}", f"BUILD={tmp_path}", "-j2", "wasm"]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-4000:]
    programs = sorted(tmp_path.glob("*.wasm"))
    names = ["db", "faults", "full", "index", "readers", "records", "repair", "tree"]
    assert [program.stem for program in programs] == [f"test_{name}" for name in names]
    kvwasi = Path(sys.executable).with_name("kvwasi")
    for program in programs:
        run = subprocess.run([kvwasi, "run", program], capture_output=True, text=True)
        assert run.returncode == 0, (program.stem, run.stderr[-2000:])
        assert "test_" in run.stderr
