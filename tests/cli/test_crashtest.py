"""kvwasi crashtest and kvwasi torture, in their smallest size."""

import json
from pathlib import Path


def test_a_state_that_is_wrong_is_shown(kv, tmp_path: Path) -> None:
    result = kv(
        "crashtest", "--reproduce", "kvwasi/commit/single/1/no-flush:L0.e40.m0", "--keep", "left", code=3
    )
    assert result.stdout.startswith((b"open: ", b"contents: ")), result.stdout
    assert (tmp_path / "left").is_dir()


def test_a_state_that_is_right(kv) -> None:
    assert b"as it should be" in kv("crashtest", "--reproduce", "kvwasi/commit/single/1:L0.e40.m0").stderr


def test_faults_damage_and_situations_have_names(kv) -> None:
    names = ("fault/kvwasi/commit/1/EIO-once/write3", "damage/kvwasi/tiny/1/bit-flipped/9", "situation/fifo")
    for name in names:
        assert b"as it should be" in kv("crashtest", "--reproduce", name).stderr


def test_parts(kv, tmp_path: Path) -> None:
    kv("crashtest", "--part", "damage", "--share", "0.0005", "--output", "report")
    found = json.loads((tmp_path / "report" / "crashtest.json").read_text())
    assert found["rows"] == found["faults"] == []
    assert found["damage"]["kvwasi"]["bit flipped"]["right"] > 0
    assert found["situations"] == {}
    assert (tmp_path / "report" / "crashtest.svg").read_text().startswith("<svg")
    assert "| kvwasi: bit flipped |" in (tmp_path / "report" / "crashtest.md").read_text()


def test_a_name_of_no_state(kv) -> None:
    for name in (
        "damage/kvwasi/tiny/1/what/3",
        "fault/nothing",
        "situation/nothing",
        "nonsense",
        "kvwasi/commit/nothing/1:L0.e4.m0",
        "kvwasi/commit/single/1:what",
    ):
        assert b"names no state" in kv("crashtest", "--reproduce", name, code=2).stderr


def test_torture(kv, tmp_path: Path) -> None:
    found = json.loads(
        kv("torture", "place", "--kills", "3", "--threads", "2", "--seed", "5", "--json").stdout
    )
    assert (found["kills"], found["seed"]) == (3, 5)
    assert list((tmp_path / "place").iterdir()) == []
