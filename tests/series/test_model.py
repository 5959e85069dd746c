"""A series against a list, with transactions, savepoints, snapshots and reopening."""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import kvwasi
from kvwasi import Status

STEPS = st.lists(st.integers(1, 50), min_size=1, max_size=700)
Model = list[list[Any]]


class SeriesMachine(RuleBasedStateMachine):
    """The model is [time, value, status] of each entry, in order."""

    @initialize(kind=st.sampled_from(["float", "int", "bytes"]))
    def begin(self, kind: str) -> None:
        self.place = tempfile.mkdtemp()
        self.path = Path(self.place) / "a.kv"
        self.store = kvwasi.open(self.path, sync="none")
        self.kind = kind
        self.model: Model = []
        self.transaction: kvwasi.Transaction | None = None
        self.before: Model = []
        self.series = self.store.series("s")
        self.held: tuple[kvwasi.Snapshot, Model] | None = None

    def value(self, time: int) -> Any:
        return {"float": float(time), "int": -time, "bytes": b"x" * (time % 300)}[self.kind]

    @property
    def last(self) -> int:
        return self.model[-1][0] if self.model else -1

    @rule(step=st.integers(-3, 3))
    def append(self, step: int) -> None:
        at = max(self.last + step, 0)
        if at > self.last:
            assert self.series.append(self.value(at), ts=at) == at
        else:
            with pytest.raises(kvwasi.TimeOrderError):
                self.series.append(self.value(at), ts=at)
            at, given = self.last + 1, at
            assert self.series.append(self.value(at), ts=given, on_conflict="bump") == at
        self.model.append([at, self.value(at), 0])

    @rule(steps=STEPS)
    def append_many(self, steps: list[int]) -> None:
        times, at = [], self.last
        for step in steps:
            times.append(at := at + step)
        assert self.series.append_many([self.value(time) for time in times], times) == len(times)
        self.model += [[time, self.value(time), 0] for time in times]

    @rule(count=st.integers(1, 600))
    def append_one_by_one(self, count: int) -> None:
        for at in range(self.last + 1, self.last + 1 + count):
            self.series.append(self.value(at), ts=at)
            self.model.append([at, self.value(at), 0])

    @precondition(lambda self: self.model)
    @rule(data=st.data(), status=st.sampled_from(Status), exactly=st.booleans())
    def set_status(self, data: st.DataObject, status: Status, exactly: bool) -> None:
        entry = data.draw(st.sampled_from(self.model))
        time = entry[0] if exactly else entry[0] + 1
        entry = next((one for one in self.model if one[0] == time), [])
        assert self.series.set_status(time, status) == bool(entry)
        if entry:
            entry[2] = status

    @precondition(lambda self: self.model)
    @rule()
    def clean(self) -> None:
        self.series.clean()
        self.model.clear()

    def check(self, series: kvwasi.SeriesReads, model: Model, start: int, stop: int) -> None:
        found = [entry for entry in model if start <= entry[0] < stop]
        assert list(series.entries(start, stop)) == [tuple(entry) for entry in found]
        for status in (None, *Status):
            wanted = [e for e in found if (e[2] != Status.DELETED if status is None else e[2] == status)]
            assert series.count(start, stop, status=status) == len(wanted)
            items = [(time, value) for time, value, _ in wanted]
            assert list(series.items(start, stop, status=status, reverse=True)) == items[::-1]
            if self.kind != "bytes" and status in (None, Status.USER1):
                times, values = series.to_numpy(start, stop, status=status)
                assert list(zip(times.tolist(), values.tolist(), strict=True)) == items

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        times = st.sampled_from([entry[0] + near for entry in self.model for near in (0, 1)] or [5])
        start, stop = sorted((data.draw(times), data.draw(times)))
        self.check(self.series, self.model, start, stop)

    @rule()
    def read_all(self) -> None:
        self.check(self.series, self.model, 0, 1 << 62)
        living = [tuple(entry[:2]) for entry in self.model if entry[2] != Status.DELETED]
        assert (self.series.first(), self.series.last()) == (
            (living[0], living[-1]) if living else (None, None)
        )

    @precondition(lambda self: self.transaction is None)
    @rule()
    def begin_transaction(self) -> None:
        self.before = [list(entry) for entry in self.model]
        self.transaction = self.store.transaction()
        self.series = self.transaction.series("s")

    @precondition(lambda self: self.transaction is not None)
    @rule(keep=st.booleans())
    def end_transaction(self, keep: bool) -> None:
        assert self.transaction is not None
        if keep:
            self.transaction.commit()
        else:
            self.transaction.rollback()
            self.model = self.before
        self.transaction = None
        self.series = self.store.series("s")

    @precondition(lambda self: self.transaction is not None and self.model)
    @rule(keep=st.booleans(), steps=STEPS)
    def savepoint(self, keep: bool, steps: list[int]) -> None:
        assert self.transaction is not None
        before = [list(entry) for entry in self.model]
        with self.transaction.savepoint() as part:
            self.append_many(steps)
            self.append(1)
            if not keep:
                part.rollback()
                self.model = before

    @rule()
    def hold(self) -> None:
        if self.held is None:
            model = self.before if self.transaction is not None else self.model
            self.held = (self.store.snapshot(), [list(entry) for entry in model])
        else:
            snapshot, model = self.held
            self.check(snapshot.series("s"), model, 0, 1 << 62)
            snapshot.close()
            self.held = None

    @precondition(lambda self: self.transaction is None and self.held is None)
    @rule(compact=st.booleans())
    def reopen(self, compact: bool) -> None:
        if compact:
            self.store.compact()
        assert self.store.check() == []
        self.store.close()
        self.store = kvwasi.open(self.path, sync="none")
        self.series = self.store.series("s")

    def teardown(self) -> None:
        if hasattr(self, "store"):
            with contextlib.suppress(kvwasi.KvError):
                self.store.close()
            shutil.rmtree(self.place)


TestSeries = SeriesMachine.TestCase
TestSeries.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
