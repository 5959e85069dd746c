"""The benchmarks of the WASI host run, tiny, and compare what the hosts did."""

import os
from pathlib import Path

import calls
import case7973
import pytest
from hosts import Program, in_turns


def test_the_7973_case(tmp_path: Path) -> None:
    lines = case7973.measure(tmp_path, turns=1, rounds=3)
    assert {(line.host, line.flushed) for line in lines} == {
        (host, flushed)
        for host in ("native", "shared", "exclusive", "wasmtime-py")
        for flushed in (True, False)
    }
    assert all(0 < line.flush_median < line.median for line in lines if line.flushed)
    assert all(line.flush_median == 0 for line in lines if not line.flushed)
    assert case7973.table(lines).count("\n") == 10
    assert os.listdir(tmp_path) == []


def test_every_call_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measured = calls.measure(Path("."), loops=1, turns=1, wasmtime_py=False)
    assert len(measured) == 28
    for call in measured:
        figures = [call.native, call.shared, call.exclusive, *([call.confined] if call.confined else [])]
        assert all(len(figure.samples) == 5 and figure.median > 0 for figure in figures)
    assert sum(call.confined is not None for call in measured) == 10
    assert calls.table(measured).count("\n") == 30


def figure(median: float) -> calls.Figure:
    return calls.Figure([median * 0.9, median, median * 1.1])


@pytest.mark.parametrize(
    ("name", "native", "shared", "slow", "of_peer", "of_slow"),
    [
        ("fd_read", 400, 500, 5000, "0.80 met", "10.0 met"),
        ("fd_read", 400, 501, 5000, "0.80 MISSED", "10.0 MISSED"),
        ("fd_read", 1000, 1250, 5000, "0.80 met", "4.0 out of reach: native C 5.0"),
        ("fd_read", 1000, 1251, 5000, "0.80 MISSED", "4.0 MISSED"),
        ("fd_read", 100, 400, 2000, "0.25 MISSED", "5.0 MISSED"),
        ("fd_seek", 100, 50, 60, "2.00 met", "1.2 met"),
        ("fd_seek", 100, 50, 40, "2.00 met", "0.8 MISSED"),
    ],
)
def test_bars(name: str, native: float, shared: float, slow: float, of_peer: str, of_slow: str) -> None:
    call = calls.Call(name, figure(native), None, figure(shared), figure(shared), figure(slow))
    assert (call.of_peer(), call.of_slow()) == (of_peer, of_slow)


def test_figures() -> None:
    assert str(calls.Figure([4.0, 1.0, 2.0, 3.0, 100.0])) == "3 ±33%"
    assert str(calls.Figure([5.0])) == "5 ±0%"
    confined = calls.Call("path_open", figure(100), figure(200), figure(200), figure(200), None)
    assert (confined.of_peer(), confined.of_slow()) == ("1.00 met", "")


def test_a_program_that_fails_is_reported(tmp_path: Path) -> None:
    program = Program("issue7973", tmp_path)
    for host in ("native", "shared", "exclusive", "wasmtime-py"):
        with pytest.raises(RuntimeError, match="ended with"):
            program.run(host, ["missing/file"], tmp_path)


def test_turns_change_their_order() -> None:
    assert list(in_turns(["a", "b"], 3)) == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("host", "ratio", "verdict"),
    [
        ("native", 1.0, ""),
        ("shared", 0.95, "0.95: met"),
        ("shared", 0.94, "0.95: MISSED"),
        ("exclusive", 4.0, "4: met"),
        ("exclusive", 3.99, "4: MISSED"),
    ],
)
def test_bars_of_the_7973_case(host: str, ratio: float, verdict: str) -> None:
    line = case7973.Line(host, True, [1.0, 3.0, 2.0], [0.5, 0.7, 0.6], ratio)
    assert line.verdict == verdict
    assert f"| {host} | 2.000 | 0.600 | 1.000-3.000 | {ratio:.2f} | {verdict} |" in case7973.table([line])
