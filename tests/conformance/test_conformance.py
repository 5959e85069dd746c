"""Our conformance programs, which ask for the POSIX errno wherever the standard's tests allow several."""

from pathlib import Path

import programs
import pytest

GROUPS = 30


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> programs.Runner:
    return programs.Runner(programs.compile_checks(tmp_path_factory.mktemp("built")))


@pytest.mark.parametrize("sharing", programs.SHARINGS)
def test_every_group(runner: programs.Runner, sharing: programs.Sharing, tmp_path: Path) -> None:
    names = programs.groups(runner)
    assert len(names) == GROUPS
    wrong = {}
    for name in names:
        directory = tmp_path / name
        directory.mkdir()
        done = runner.run(["conformance", name], {"/": directory}, sharing)
        left = sorted(path.name for path in directory.iterdir())
        if done.status or left or b" 0 failed" not in done.stdout:
            wrong[name] = (done, left)
    assert not wrong


def test_a_failed_check_is_seen(runner: programs.Runner, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()  # so the program's first call fails
    done = runner.run(["conformance", "paths"], {"/": tmp_path}, "shared")
    assert done.status == 1
    assert b'__wasi_path_create_directory(ROOT, "dir") is EXIST, not SUCCESS' in done.stdout
