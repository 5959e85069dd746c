"""The crash model and the history, on traces made by hand."""

import itertools
import random
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import pytest

from kvwasi.crashcheck.campaign import Violation
from kvwasi.crashcheck.disk import Choice, Disk
from kvwasi.crashcheck.examine import write_state
from kvwasi.crashcheck.history import History
from kvwasi.crashcheck.states import LEVELS, choices
from kvwasi.crashcheck.trace import Event, Trace, TraceError, windows

EIO = 5


def write(offset: int, data: bytes, file: int = 1) -> Event:
    return Event("write", file, offset, data)


def stood(events: Sequence[Event]) -> Disk:
    disk = Disk(Trace(list(events)))
    while disk.step():
        pass
    return disk


def contents(disk: Disk, mask: int, **how: object) -> dict[str, bytes]:
    state = disk.build(Choice(disk.at, "L2", disk.legal(mask), **how))  # type: ignore[arg-type]
    return {name: image.content() for name, image in state.files.items()}


def possible(disk: Disk, *levels: str) -> set[bytes | None]:
    """Every content of file ``a`` that the generator makes; None: it is not there."""
    found = [disk.build(choice).files.get("a") for choice in choices(disk, "1", 4) if choice.level in levels]
    return {image.content() if image else None for image in found}


BASE = Event("base", 1, data=b"a" * 1024, name="a")


def test_a_trace_survives_its_file() -> None:
    events = [
        BASE,
        write(7, b"xyz"),
        Event("create", 2, name="b\udcff"),
        Event("rename", name="b\udcff", name2="c"),
        Event("sync", 1, 2, error=EIO, flags=1),
        Event("begun", 0, 3),
    ]
    trace = Trace(events)
    assert Trace.decode(trace.encode()).events == events
    for cut in range(1, len(trace.encode())):
        with pytest.raises(TraceError) if cut not in _borders(events) else _nothing():
            Trace.decode(trace.encode()[:cut])


def _borders(events: list[Event]) -> set[int]:
    return {len(Trace(events[:count]).encode()) for count in range(len(events) + 1)}


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_the_gate_compares_every_byte(tmp_path: Path) -> None:
    trace = Trace([BASE, write(1000, b"b" * 100)])
    (tmp_path / "a").write_bytes(b"a" * 1000 + b"b" * 100)
    (tmp_path / "a-lock").write_bytes(b"ignored")
    trace.verify(tmp_path, ["a-lock"])
    for wrong in (b"a" * 1000 + b"b" * 99, b"a" * 999 + b"c" + b"b" * 100):
        (tmp_path / "a").write_bytes(wrong)
        with pytest.raises(TraceError, match="not what happened to a"):
            trace.verify(tmp_path, ["a-lock"])
    (tmp_path / "a").write_bytes(b"a" * 1000 + b"b" * 100)
    with pytest.raises(TraceError, match="a-lock"):
        trace.verify(tmp_path)


def test_what_is_flushed_stays_and_the_rest_may_go() -> None:
    disk = stood([BASE, write(0, b"b"), Event("sync", 1), write(1, b"c"), write(2, b"d")])
    wanted = {b"ba", b"bc", b"bad", b"bcd"}
    assert {(start + b"a" * 1024)[:1024] for start in wanted} == possible(disk, "L0", "L1", "L2")


def test_a_flush_covers_what_came_before_it_began() -> None:
    disk = stood([BASE, write(0, b"b"), write(1, b"c"), Event("sync", 1, offset=2)])
    assert contents(disk, 0)["a"][:2] == b"ba"


def test_a_flush_of_a_range() -> None:
    ranged = Event("sync", 1, data=(512).to_bytes(8, "little") + (1024).to_bytes(8, "little"))
    disk = stood([BASE, write(0, b"b"), write(512, b"c"), ranged])
    assert contents(disk, 0)["a"] == b"a" * 512 + b"c" + b"a" * 511


def test_a_synchronous_write_is_alone_in_being_flushed() -> None:
    disk = stood([BASE, write(0, b"b"), write(1, b"c"), Event("sync_write", 1)])
    assert contents(disk, 0)["a"][:2] == b"ac"


def test_a_failed_flush_promises_nothing_ever() -> None:
    failed = [BASE, write(0, b"b"), Event("sync", 1, error=EIO), write(600, b"c"), Event("sync", 1)]
    disk = stood(failed)
    assert contents(disk, 0)["a"] == b"a" * 600 + b"c" + b"a" * 423
    assert disk.seen()["a"][0:1] == b"b"
    reverted = stood([*failed[:2], Event("sync", 1, error=EIO, flags=1), *failed[3:]])
    assert reverted.seen()["a"][0:1] == b"a"
    # the sector that is written again carries along what it holds
    again = stood([*failed[:3], write(1, b"c"), Event("sync", 1)])
    assert contents(again, 0)["a"][:2] == b"bc"


def test_torn_writes_end_where_the_devices_sectors_do() -> None:
    disk = stood([BASE, write(100, b"b" * 800)])
    for content in possible(disk, "L3"):
        assert content is not None
        edges = {at for at, (x, y) in enumerate(itertools.pairwise(content), 1) if x != y}
        assert edges <= {100, 512, 900}
    assert b"a" * 100 + b"b" * 412 + b"a" * 512 in possible(disk, "L3")
    assert b"a" * 512 + b"b" * 388 + b"a" * 124 in possible(disk, "L3")
    assert any(
        {at for at, (x, y) in enumerate(itertools.pairwise(content or b""), 1) if x != y} - {100, 512, 900}
        for content in possible(disk, "L6")
    )


def test_growth_leaves_zeros_garbage_or_old_data() -> None:
    disk = stood([BASE, write(1024, b"b" * 1024)])
    found = possible(disk, "L4")
    assert b"a" * 1024 + bytes(1024) in found
    assert b"a" * 2048 in found
    assert any(content and len(content) == 2048 and len(set(content[1024:])) > 50 for content in found)


def test_names_keep_their_order_but_at_level_5() -> None:
    made = [Event("create", 1, name="a"), write(0, b"x"), Event("sync", 1)]
    assert contents(stood(made), 0) == {"a": b"x"}  # the flush of a new file keeps its name
    assert None in possible(stood(made), "L5")
    moved = [*made, Event("link", name="a", name2="b"), Event("unlink", name="a")]
    disk = stood(moved)
    names = {tuple(sorted(disk.build(c).files)) for c in choices(disk, "1", 9) if c.level != "L5"}
    assert names == {("a",), ("a", "b"), ("b",)}
    assert () in {tuple(disk.build(c).files) for c in choices(disk, "1", 9) if c.level == "L5"}
    assert contents(stood([*moved, Event("sync_names")]), 0) == {"b": b"x"}


def test_a_link_is_of_the_file_that_had_the_name_then() -> None:
    old, new = Event("base", 1, data=b"old", name="a-new"), Event("create", 2, name="a-new")
    link = Event("link", name="a-new", name2="a")
    disk = stood([old, Event("unlink", name="a-new"), new, write(0, b"new", 2), Event("sync", 2), link])
    states = [disk.build(choice).files.get("a") for choice in choices(disk, "1", 9)]
    assert {image.content() for image in states if image} == {b"new"}  # though its first name may be lost


def test_a_second_cut_of_what_does_not_count_does_not_count() -> None:
    def counted(choice: str, level: str) -> bool:
        return Violation("", choice, level, "open", "", True).counted

    assert counted("L3.e4.m0+L0.e2.m0", "L0")
    assert not counted("L6.e4.m0.0b3", "L6")
    assert not counted("L6.e4.m0.0b3+L0.e2.m0", "L0")
    assert not counted("L3.e4.m0+L6.e2.m0.0b3", "L6")


def test_nothing_behind_a_shrinking_is_there_without_it() -> None:
    disk = stood([BASE, Event("truncate", 1, 10), write(10, b"b")])
    assert possible(disk, "L0", "L1", "L2") == {b"a" * 1024, b"a" * 10, b"a" * 10 + b"b"}


def test_equal_disks_have_equal_identities(tmp_path: Path) -> None:
    chance = random.Random(7)
    seen: dict[object, bytes] = {}
    for _ in range(300):
        events = [BASE]
        for _ in range(chance.randrange(5)):
            if chance.random() < 0.2:
                events.append(Event("truncate", 1, chance.randrange(1500)))
            else:
                events.append(write(chance.choice((0, 512, 600)), chance.choice((b"a", b"b")) * 512))
            if chance.random() < 0.3:
                events.append(Event("sync", 1))
        disk = stood(events)
        state = disk.build(Choice(disk.at, "L1", (1 << len(disk.pending)) - 1))
        write_state(state, str(tmp_path))
        content = (tmp_path / "a").read_bytes()
        assert content == disk.seen()["a"]
        assert seen.setdefault(state.identity(), content) == content
    assert len(set(seen.values())) == len(seen) > 20


def test_choices_have_names_and_are_the_same_everywhere() -> None:
    events = [Event("create", 1, name="a"), *(write(at * 700, bytes([at]) * 1500) for at in range(9))]
    disk = stood(events)
    found = list(choices(disk, "7", 3))
    assert {choice.level for choice in found} == set(LEVELS) - {"L7"}
    assert [Choice.parse(str(choice)) for choice in found] == found
    digest = blake2b(" ".join(map(str, found)).encode(), digest_size=8).hexdigest()
    assert digest == "24b07b6cb5c7b4dd", "a report of one machine could not be reproduced on another"
    assert {choice.level for choice in choices(disk, "7", 3, "L7")} == {"L7"}


def test_windows_follow_the_marks() -> None:
    marks = [Event("begun", 0, 1), Event("begun", 1, 1), Event("durable", 0, 1), Event("begun", 0, 2)]
    expected = [((0, 1), (0, 0)), ((0, 1), (0, 1)), ((1, 1), (0, 1)), ((1, 2), (0, 1))]
    assert windows(Trace(list(marks)), 2) == expected


def test_dropping_events_keeps_what_a_flush_covers() -> None:
    trace = Trace([BASE, write(0, b"b"), write(1, b"c"), Event("sync", 1, offset=2)])
    disk = Disk(trace.without([1]))
    while disk.step():
        pass
    assert contents(disk, 0)["a"][:2] == b"aa"


def test_a_history_with_lanes() -> None:
    history = History(2)
    assert [history.add([(b"0/a", b"1")], 0), history.add([(b"1/a", b"1")], 1)] == [1, 1]
    assert history.add([(b"0/a", None)], 0) == 2
    everything = ((0, 2), (0, 1))
    assert history.find({b"0/a": b"1", b"1/a": b"1"}, everything) == [1, 1]
    assert history.find({b"1/a": b"1"}, ((1, 2), (1, 1))) == [2, 1]
    assert history.find({}, ((1, 1), (0, 1))) is None
    assert history.find({b"2/stray": b""}, everything) is None
    assert "no commit" in history.wrong({b"0/a": b"2"}, everything)
