"""A store in a directory of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import kvwasi


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.kv"


@pytest.fixture
def store(path: Path) -> Iterator[kvwasi.Store]:
    with kvwasi.open(path, sync="none") as opened:
        yield opened
