"""``kvwasi bench``: a tiny run, its three outputs, and what it says when an engine is missing."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kvwasi.bench import peers, quick

TINY = ("bench", "--keys", "300", "--turns", "2")


def test_table_plot_and_json(kv, tmp_path: Path) -> None:
    shown = kv(*TINY, "--engine", "sqlite3", "--plot", "ratios.svg").stdout.decode()
    for word in ("kvwasi", "sqlite3 = 1", "readrandom", "put-8", "slower than sqlite3:", "file system:"):
        assert word in shown
    root = ElementTree.parse(tmp_path / "ratios.svg").getroot()
    assert "readrandom" in "".join(root.itertext())
    document = json.loads(kv(*TINY, "--engine", "sqlite3", "--json").stdout)
    assert {m["engine"] for m in document["measurements"]} == {"kvwasi", "sqlite3"}
    assert all(len(m["turns"]) == 2 for m in document["measurements"])
    assert {path.name for path in tmp_path.iterdir()} == {"ratios.svg"}, "leaves something behind"


def test_what_cannot_be_compared_is_named(kv, monkeypatch: pytest.MonkeyPatch) -> None:
    assert b"oracle is none of" in kv(*TINY, "--engine", "oracle", code=2).stderr
    monkeypatch.setattr(peers, "installed", lambda: ["kvwasi", "sqlite3"])
    assert quick.plan().missing == ["lmdb"]
    assert quick.plan().reference == "sqlite3"
    with pytest.raises(LookupError, match="pip install lmdb"):
        quick.plan(["lmdb"])
    assert [engine.name for engine in quick.plan(["sqlite3"]).engines] == ["kvwasi", "sqlite3"]


def test_a_disk_that_is_not_there(kv) -> None:
    assert b"No such file" in kv(*TINY, "--directory", "absent", code=1).stderr
