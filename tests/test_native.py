"""The engine's C unit tests, built natively under the sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def sanitizers_work(directory: Path) -> bool:
    program = directory / "program"
    (directory / "program.c").write_text("int main(void) { return 0; }\n")
    command = [os.environ.get("CC", "cc"), "-fsanitize=address,undefined", "program.c", "-o", "program"]
    if not shutil.which(command[0]) or subprocess.run(command, cwd=directory, capture_output=True).returncode:
        return False
    return subprocess.run([program], capture_output=True).returncode == 0


@pytest.mark.timeout(600)
def test_engine_under_sanitizers(tmp_path: Path) -> None:
    if not shutil.which("make") or not sanitizers_work(tmp_path):
        pytest.skip("needs make and a C compiler with the address sanitizer")
    result = subprocess.run(
        ["make", "native-test"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert result.returncode == 0, result.stdout
