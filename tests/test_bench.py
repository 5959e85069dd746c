"""The benchmarks and the demonstration, tiny, so that they cannot rot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"


def run(script: str, *arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, BENCH / script, *map(str, arguments)], capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_store_benchmark(tmp_path: Path) -> None:
    out = run(
        "run.py", "--keys", 2000, "--turns", 2, "--directory", tmp_path, "--results", tmp_path / "results"
    )
    whole = json.loads((tmp_path / "results" / "store-2000.json").read_text())
    measured = {(m["workload"], m["engine"]) for m in whole["measurements"]}
    names = {
        "fillrandom",
        "fillrandom-batch",
        "fillsync",
        "readrandom",
        "readrandom-batch",
        "readseq",
        "open",
    }
    assert measured == {(name, engine) for name in names for engine in ("kvwasi", "lmdb")}
    assert all(len(m["turns_us"]) == 2 and min(m["turns_us"]) > 0 for m in whole["measurements"])
    markdown = (tmp_path / "results" / "store-2000.md").read_text()
    for name in names:
        assert name in out
        assert name in markdown
    assert {path.name for path in tmp_path.iterdir()} == {"results"}, "leaves something behind"


def test_the_benchmark_sees_a_wrong_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import harness
    from engines import Lmdb
    from workloads import WORKLOADS, numbered

    class Forgetful(Lmdb):
        def get_each(self, keys):  # type: ignore[no-untyped-def]
            return [value and value[:-1] for value in super().get_each(keys)]

    readrandom = [workload for workload in WORKLOADS if workload.name == "readrandom"]
    with pytest.raises(harness.WrongResultError):
        harness.compare(numbered(100), [Forgetful], readrandom, 1, tmp_path)


def test_demo(tmp_path: Path) -> None:
    out = run("demo.py", "--limit", 150, "--kills", 2, "--keys", 500, "--directory", tmp_path)
    assert out.count("SIGKILL") == 2
    assert "keys are there, hash for hash" in out
    assert out.count("readrandom") == 2
    assert list(tmp_path.iterdir()) == []


def test_the_demo_sees_a_loss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import demo

    import kvwasi

    groups = [[(b"a", b"1")], [(b"b", b"2"), (b"c", b"3")], [(b"d", b"4")]]
    path = tmp_path / "a.kv"
    with kvwasi.open(path) as store:
        store.put_many(groups[0] + groups[1])
    assert demo.judge(path, groups, acknowledged=2) == 2
    assert demo.judge(path, groups, acknowledged=1) == 2, "the one in flight may be there, whole"
    with pytest.raises(demo.LostError):
        demo.judge(path, groups, acknowledged=3)
    with kvwasi.open(path) as store:
        del store["c"]
    with pytest.raises(demo.LostError):
        demo.judge(path, groups, acknowledged=1)
