"""The benchmarks of the WASI host run, tiny, and compare what the hosts did."""

import os
from pathlib import Path

import calls
import case7973
import pytest
from hosts import Program


def test_the_7973_case(tmp_path: Path) -> None:
    lines = case7973.measure(tmp_path, turns=1, rounds=3)
    assert {(line.host, line.flushed) for line in lines} == {
        (host, flushed)
        for host in ("native", "shared", "exclusive", "wasmtime-py")
        for flushed in (True, False)
    }
    assert case7973.table(lines).count("\n") == 10
    assert os.listdir(tmp_path) == []


def test_every_call_is_measured(tmp_path: Path) -> None:
    measured = calls.measure(tmp_path, loops=1, turns=1, wasmtime_py=False)
    assert len(measured) == 27
    assert all(call.native > 0 and call.shared > 0 and call.exclusive > 0 for call in measured)
    assert sum(call.confined is not None for call in measured) == 10
    assert calls.table(measured).count("\n") == 29


def test_a_program_that_fails_is_reported(tmp_path: Path) -> None:
    program = Program("issue7973", tmp_path)
    for host in ("native", "shared", "exclusive", "wasmtime-py"):
        with pytest.raises(RuntimeError, match="ended with"):
            program.run(host, ["missing/file"], tmp_path)
