"""The benchmarks and the demonstration, tiny, so that they cannot rot."""

import collections
import importlib
import itertools
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from kvwasi.bench import harness, peers
from kvwasi.bench.engines import Lmdb
from kvwasi.bench.harness import from_json
from kvwasi.bench.workloads import STORE, Life, named, numbered, put_threads

NOT_CALLED_NATIVELY = {"map"}  # views
BENCH = Path(__file__).resolve().parent.parent / "bench"


def run(script: str, *arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, BENCH / script, *map(str, arguments)], capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_the_native_instance_has_what_the_engine_calls() -> None:
    """A function of the host that it lacked would be a jump to nowhere."""
    native = (BENCH / "native/native_instance.c").read_text()
    engine = BENCH.parent / "kvwasi/engine/native"
    compiled = [path for path in engine.glob("*.c") if path.name not in ("instance.c", "runtime.c")]
    called = {name for path in compiled for name in re.findall(r"api->(\w+)\(", path.read_text())}
    assert {"read", "datasync"} <= called
    assert called - set(re.findall(r"\.(\w+) = host_\w+", native)) == NOT_CALLED_NATIVELY


def medians(results: Path, suite: str) -> dict[tuple[str, str], float]:
    """Of each workload on each engine."""
    document = json.loads((results / f"{suite}.json").read_text())
    assert set(document["environment"]) >= {"engines", "python", "kernel", "file_system", "method"}
    measured = from_json(document)
    assert all(m.turns and min(m.turns) >= 0 for m in measured)
    return {(m.workload, m.engine): m.median for m in measured}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A tiny run of every suite on the engines that the tests need anyway: what it printed, its results."""
    place = tmp_path_factory.mktemp("bench")
    engines = ("kvwasi", "lmdb", "sqlite3", "guest-native", "guest-stock")
    out = run(
        "run.py",
        *("--size", "tiny", "--directory", place / "work", "--results", place / "results"),
        *("--engines", *engines),
    )
    assert list((place / "work").iterdir()) == [], "leaves something behind"
    return out, place / "results"


def test_every_workload_ran_on_every_engine(tiny: tuple[str, Path]) -> None:
    out, results = tiny
    found = medians(results, "store")
    names = {step.name for life in STORE for step in life.steps if not step.name.startswith("(")}
    engines = ("kvwasi", "lmdb", "sqlite3", "guest-native", "guest-stock")
    assert set(found) == {(name, engine) for name in names for engine in engines}
    assert all(median > 0 for median in found.values())
    markdown = (results / "store.md").read_text()
    for name in names:
        assert name in out
        assert name in markdown


def test_threads_are_held_against_a_bare_group_commit(tiny: tuple[str, Path]) -> None:
    found = medians(tiny[1], "threads")
    for count in (1, 2, 8, 32):
        assert {(f"put-{count}", name) for name in ("kvwasi", "lmdb", "sqlite3", "bare-group")} <= set(found)
    assert ("put-1", "bare-put") in found
    assert ("put-8", "bare-put") not in found


def test_scale_has_times_memory_latencies_and_pauses(tiny: tuple[str, Path]) -> None:
    found = medians(tiny[1], "scale")
    for engine in ("kvwasi", "lmdb"):
        assert found["get-median 2,000", engine] <= found["get-p99.9 2,000", engine]
        assert found["pause-p99.99 5,000", engine] <= found["pause 5,000", engine]
        for metric in ("open", "open-crashed", "put-p99"):
            assert found[f"{metric} 2,000", engine] > 0
    assert 0 < found["utilisation 5,000", "kvwasi"] < 100


def test_redb_and_ycsb(tiny: tuple[str, Path]) -> None:
    redb, ycsb = medians(tiny[1], "redb"), medians(tiny[1], "ycsb")
    for engine in ("kvwasi", "lmdb", "sqlite3", "guest-native"):
        assert {f"ycsb-{letter}" for letter in "abcdef"} <= {name for name, of in ycsb if of == engine}
        assert redb["size-compacted", engine] < redb["size", engine]
        assert redb["random-reads-8", engine] > 0


def test_charts_are_well_formed(tiny: tuple[str, Path]) -> None:
    names = {"store", "threads", "scale-open", "scale-get", "scale-memory", "redb", "ycsb", "bars"}
    assert {path.stem for path in tiny[1].glob("*.svg")} == names
    for name in names:
        root = ElementTree.parse(tiny[1] / f"{name}.svg").getroot()
        width, height = (float(root.attrib[side]) for side in ("width", "height"))
        for element in root.iter():
            assert "nan" not in "".join(element.attrib.values()), name
            for place, limit in (("x", width), ("y", height)):
                assert 0 <= float(element.attrib.get(place, 0)) <= limit, (name, element.attrib)


def test_bars_say_what_is_missed_and_what_is_not_measured(tiny: tuple[str, Path]) -> None:
    found = {bar["what"]: bar for bar in json.loads((tiny[1] / "bars.json").read_text())}
    assert len(found) > 20
    assert found["7973 case, shared: of native speed"]["state"] == "not measured"
    opening = found["time to open after a clean close"]
    assert opening["state"] in ("missed", "not at size"), (
        "two thousand keys do not meet a bar for ten million"
    )
    for bar in found.values():
        if bar["measured"] is not None:
            enough = bar["measured"] <= bar["needed"] if bar["at_most"] else bar["measured"] >= bar["needed"]
            assert enough == (bar["state"] != "missed"), bar
    assert "bars are met" in tiny[0]


def test_the_benchmark_sees_a_wrong_result(tmp_path: Path) -> None:
    class Forgetful(Lmdb):
        def get_each(self, keys):  # type: ignore[no-untyped-def]
            return [value and value[:-1] for value in super().get_each(keys)]

    class Losing(Lmdb):
        def put_each(self, entries):  # type: ignore[no-untyped-def]
            super().put_each(entries[1:])

    for engine, step in ((Forgetful, "readrandom"), (Losing, "fillsync")):
        with pytest.raises(harness.WrongResultError):
            harness.compare(numbered(200), [engine], named(STORE, [step]), 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in peers.ENGINES if name in peers.installed()])
def test_every_engine_that_is_installed_answers_alike(name: str, tmp_path: Path) -> None:
    engine = peers.ENGINES[name]
    assert engine.version()
    life = Life("life", [step for life in STORE for step in life.steps if life.name == "read"])
    harness.compare(numbered(1100), [engine], [life, put_threads(3, 30)], 1, tmp_path)


def test_a_hash_tells_order_absence_and_borders() -> None:
    one = harness.digest([b"a", b"b", None])
    assert one == harness.digest(iter((b"a", b"b", None)))
    for other in ([b"b", b"a", None], [b"a", b"b", b""], [b"ab", b"", None], [b"a", b"b"]):
        assert harness.digest(other) != one


def test_zipfian_ranks_are_those_of_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import workloads

    generator = workloads.zipfian(random.Random(1), 1000)
    counts = collections.Counter(itertools.islice(generator, 100_000))
    zeta = sum(rank**-0.99 for rank in range(1, 1001))
    assert counts[0] / 100_000 == pytest.approx(1 / zeta, rel=0.05)
    assert counts[1] / 100_000 == pytest.approx(0.5**0.99 / zeta, rel=0.08)
    assert 0 <= min(counts) <= max(counts) < 1000


def test_the_native_guest_is_native_and_beside_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    import compiled

    import kvwasi

    native = compiled.native_kvwasi()
    assert native.store._engine.__file__ == str(compiled.build_engine())
    assert native is not kvwasi
    assert sys.modules["kvwasi"] is kvwasi
    assert kvwasi.store._engine.__file__ != native.store._engine.__file__


def test_profile(tmp_path: Path) -> None:
    out = run(
        "profiling.py",
        *("--keys", 2000, "--turns", 2, "--without-counts"),
        *("--directory", tmp_path / "work", "--results", tmp_path / "results"),
    )
    document = json.loads((tmp_path / "results" / "profile.json").read_text())
    assert set(document["steps_ns"]) == {"get", "put", "synced put", "scan"}
    for name, parts in document["steps_ns"].items():
        assert all(value >= 0 for _, value in parts), name
        assert sum(value for _, value in parts) > 0, name
        assert f"| {name}: step |" in out
    ElementTree.parse(tmp_path / "results" / "profile.svg")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("gate")


def run_gate(gate: ModuleType, monkeypatch: pytest.MonkeyPatch, place: Path, *arguments: str) -> int:
    options = ("--keys", "2000", "--turns", "1", "--directory", str(place / "work"))
    monkeypatch.setattr("sys.argv", ["gate.py", *options, "--baseline", str(place / "gate.json"), *arguments])
    return gate.main()  # type: ignore[no-any-return]


def test_the_gate_lets_the_same_pass_and_stops_the_slower(
    gate: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run_gate(gate, monkeypatch, tmp_path, "--update") == 0
    baseline = tmp_path / "gate.json"
    before = json.loads(baseline.read_text())
    assert set(before["ratios"]) == set(gate.CORE)
    everything = ("--tolerated", "0")  # the ratios of so small a run say nothing
    counts = before["instructions"]
    monkeypatch.setattr(gate.counted, "count", lambda directory: counts)  # they are the same, but take long
    assert run_gate(gate, monkeypatch, tmp_path, *everything) == 0
    if counts:
        less = {**before, "instructions": {**counts, "get": counts["get"] * 0.8}}
        baseline.write_text(json.dumps(less))
        assert run_gate(gate, monkeypatch, tmp_path, *everything) == 1
        baseline.write_text(json.dumps({**less, "counted_with": "another compiler"}))
        assert run_gate(gate, monkeypatch, tmp_path, *everything) == 0


def test_the_gate_judges_ratios(gate: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gate.counted, "available", lambda: False)
    assert run_gate(gate, monkeypatch, tmp_path, "--update") == 0
    baseline = tmp_path / "gate.json"
    before = json.loads(baseline.read_text())
    assert before["instructions"] == {}
    baseline.write_text(json.dumps({**before, "ratios": {**before["ratios"], "scan": 1000.0}}))
    assert run_gate(gate, monkeypatch, tmp_path) == 1
    assert gate.slower({"get": 0.5, "put": 0.9}, {"get": 1.0, "put": 1.0, "new": 1.0}, 0.6) == ["get"]


def test_the_committed_baseline_covers_the_core_operations(gate: ModuleType) -> None:
    known = json.loads(gate.BASELINE.read_text())
    assert set(known["ratios"]) == set(gate.CORE)
    assert set(known["instructions"]) == set(gate.counted.OPERATIONS)


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


def test_time_series(tmp_path: Path) -> None:
    out = run("series.py", "--samples", 20_000, "--turns", 1, "--directory", tmp_path, "--results", tmp_path)
    measured = json.loads((tmp_path / "series.json").read_text())["measured"]
    lines = {(one["workload"], one["engine"]): one["turns"][0] for one in measured}
    for name in ("append_many", "scan", "range", "count", "append", "append synced", "put", "put synced"):
        assert lines[name, "kvwasi"] > 0 and lines[name, "sqlite3"] > 0
    assert 8 < lines["bytes", "kvwasi"] < 120  # of a small file most is the space for more
    assert "times SQLite, bar 10" in out and (tmp_path / "series.md").read_text().strip() == out.strip()


def test_a_large_life(tmp_path: Path) -> None:
    result = subprocess.run(
        [
            sys.executable,
            BENCH / "large.py",
            "--keys",
            "3000",
            "--directory",
            tmp_path,
            "--results",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "large-3000.json").read_text())
    assert list(results) == ["kvwasi", "kvwasi, cache of 128 MiB", "lmdb"]
    steps = [row["step"] for row in results["lmdb"]]
    assert steps[0] == "load, random order" and "compact" in steps
    for rows in results.values():
        assert [row["step"] for row in rows] == steps and rows[0]["us_an_operation"] > 0


def test_pauses(tmp_path: Path) -> None:
    out = run("pauses.py", "--keys", 3000, "--directory", tmp_path, "--results", tmp_path)
    assert "the longest put" in out.lower()
    results = json.loads((tmp_path / "pauses.json").read_text())
    for found in results.values():  # every put was counted
        assert sum(sum(counts.values()) for counts in found["counts"].values()) == 20 * 300
    ElementTree.parse(tmp_path / "pauses.svg")


def test_readers_beside_a_writer(tmp_path: Path) -> None:
    """Killed now and then, for some seconds; `make readers` does it for five minutes."""
    out = run(
        "readers.py", "--seconds", 10, "--turns", 1, "--directory", tmp_path, "--output", tmp_path / "out"
    )
    found = re.search(r"commits: (\d+); looks of readers: (\d+); violations: 0\n", out)
    assert found and int(found[1]) > 100 and int(found[2]) > 20, out
    assert re.search(r"after the last reader was killed 0\n", out)
    assert re.search(r"random reads: 4 processes together \d+\.\d\d times one", out)
    assert (tmp_path / "out").read_text() == out
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
