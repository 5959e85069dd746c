"""SIGKILL at random moments: ``kvwasi torture`` in a small size; and a loss would be noticed."""

import random
from itertools import islice
from pathlib import Path

import pytest

from kvwasi.crashcheck.engines import ENGINES
from kvwasi.crashcheck.torture import LossError, commits, compare, torture

KILLS = 120
SEED = 31


@pytest.mark.timeout(120)
@pytest.mark.parametrize("threads", [1, 4])
def test_nothing_acknowledged_is_lost(tmp_path: Path, threads: int) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    directory = str(tmp_path / "place")
    try:
        score = torture(directory, kills=KILLS // 2, seconds=None, processes=2, threads=threads, seed=seed)
    except LossError as error:
        pytest.fail(f"seed {seed}: {error}")
    assert score.kills == KILLS // 2
    assert score.commits > 0


@pytest.mark.parametrize(("told", "made"), [(9, 7), (7, 9), (1, 0), (0, 2)])
def test_a_loss_would_be_noticed(tmp_path: Path, told: int, made: int) -> None:
    mode = ENGINES["kvwasi"].modes[0]
    database = ENGINES["kvwasi"].open(str(tmp_path), mode)
    for commit in islice(commits(SEED, 0), made):
        commit.make(database)
    database.close()
    with pytest.raises(LossError, match="contents are those"):
        compare(str(tmp_path), mode, {}, SEED, [told])
    compare(str(tmp_path), mode, {}, SEED, [made])


def test_every_kind_of_transaction_is_among_them() -> None:
    some = list(islice(commits(SEED, 0), 100))
    assert any(commit.undone for commit in some)
    assert any(commit.drop for commit in some)
    assert any(value is None for commit in some for _, value in commit.changes)
