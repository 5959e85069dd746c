"""A directory tree as entries."""

import os
from pathlib import Path

import pytest

from kvwasi.formats import tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "b" / "deep").mkdir(parents=True)
    (root / "b" / "deep" / "file").write_bytes(b"\x00\xff")
    (root / "b.txt").write_bytes(b"")
    (root / "a").write_bytes(b"A")
    return root


def test_keys_are_paths_and_come_in_order(root: Path) -> None:
    found = tree.scan(root)
    assert list(tree.read(found)) == [(b"a", b"A"), (b"b.txt", b""), (b"b/deep/file", b"\x00\xff")]
    assert [file.size_bytes for file in found.files] == [1, 0, 2]
    assert found.skipped == 0


def test_only_regular_files_count(root: Path) -> None:
    (root / "link").symlink_to("a")
    (root / "out").symlink_to("..", target_is_directory=True)
    os.mkfifo(root / "fifo")
    found = tree.scan(root)
    assert [file.key for file in found.files] == [b"a", b"b.txt", b"b/deep/file"]
    assert found.skipped == 3


def test_the_database_itself_is_left_out(root: Path) -> None:
    found = tree.scan(root, exclude=[str(root / "b" / ".." / "a"), str(root / "absent")])
    assert [file.key for file in found.files] == [b"b.txt", b"b/deep/file"]
    assert found.skipped == 0


def test_names_that_are_no_text(root: Path) -> None:
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff"))).write_bytes(b"raw")
    assert (b"\xff", b"raw") in list(tree.read(tree.scan(root)))


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tree.scan(tmp_path / "absent")
