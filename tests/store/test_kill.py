"""SIGKILL at random moments: ``torture.py`` in a small size, and the proof that it would notice a loss."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

import kvwasi
from tests.store import torture

KILLS = 200


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    script = Path(torture.__file__)
    command = [sys.executable, str(script), str(tmp_path), "--kills", str(KILLS), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    assert f"{KILLS} kills" in done.stdout


@pytest.mark.parametrize(("told", "made"), [(5, 3), (3, 5), (1, 0), (0, 2)])
def test_a_loss_would_be_noticed(path: Path, told: int, made: int) -> None:
    history = torture.commits(seed=31)
    with kvwasi.open(path, sync="none") as store:
        for _ in range(made):
            next(history)[0](store)
    with pytest.raises(AssertionError, match="keys differ"):
        torture.compare(path, {}, 31, told)
    torture.compare(path, {}, 31, made)
