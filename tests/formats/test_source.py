"""What load reads: formats recognised, batches bounded, a store dumped and loaded again the same."""

import doctest
import io
import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kvwasi
from kvwasi.formats import FormatError, errors, jsonl, mdb, source, tree
from kvwasi.formats.errors import Row

KEYS = st.binary(min_size=1, max_size=1024)
VALUES = st.binary(max_size=300)


def dump(store: kvwasi.Store, form: str) -> io.BytesIO:
    stream = io.BytesIO()
    if form == "jsonl":
        jsonl.write(store.items(), stream)
    else:
        mdb.write(
            store.items(), stream, form="print" if form == "mdb-print" else "bytevalue", map_bytes=1 << 20
        )
    stream.seek(0)
    return stream


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp("stores")
    with kvwasi.open(place / "a.kv", sync="none") as one, kvwasi.open(place / "b.kv", sync="none") as other:
        yield one, other


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(entries=st.dictionaries(KEYS, VALUES), form=st.sampled_from(["jsonl", "mdb", "mdb-print"]))
def test_a_store_comes_back_as_it_was(stores, entries: dict[bytes, bytes], form: str) -> None:
    one, other = stores
    one.clear()
    other.clear()
    one.put_many(entries)
    for batch in source.batches(source.read(io.BufferedReader(dump(one, form))), 7):
        other.put_many((row.key, row.value) for row in batch)
    assert list(other.items()) == sorted(entries.items())


@given(st.lists(st.tuples(st.just(b"k"), VALUES)), st.integers(1, 10), st.integers(1, 1000))
def test_batches_are_bounded_and_lose_nothing(entries, count_max: int, bytes_max: int) -> None:
    rows = [Row(key, value) for key, value in entries]
    made = list(source.batches(rows, count_max, bytes_max))
    assert list(itertools.chain.from_iterable(made)) == rows
    for batch in made:
        assert 1 <= len(batch) <= count_max
        assert sum(len(row.key) + len(row.value) for row in batch[:-1]) < bytes_max


def test_a_batch_is_made_before_the_next_entry_is_read() -> None:
    def entries():
        yield Row(b"a", b"1")
        raise FormatError(2, "broken")

    batches = source.batches(entries(), 1)
    assert next(batches) == [Row(b"a", b"1")]
    with pytest.raises(FormatError):
        next(batches)


def test_a_file_is_followed_by_its_position(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(jsonl.encode_line((b"k", b"v")) * 3)
    with source.open_path(str(path)) as opened:
        assert opened.size == path.stat().st_size
        positions = [opened.position() for _ in opened.entries]
        assert opened.position() == opened.size
    assert positions == sorted(positions)


def test_a_directory_is_a_tree(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"four")
    with source.open_path(str(tmp_path)) as opened:
        assert opened.size == 4
        assert list(opened.entries) == [Row(b"file", b"four")]
        assert opened.position() == 4
    with pytest.raises(NotADirectoryError), source.open_path(str(tmp_path / "file"), "tree"):
        pass


def test_the_format_may_be_named() -> None:
    text = b'{"key": "k", "value": "v"}\n'
    assert list(source.read(io.BufferedReader(io.BytesIO(text)), "jsonl")) == [Row(b"k", b"v", line=1)]
    with pytest.raises(FormatError):
        list(source.read(io.BufferedReader(io.BytesIO(text)), "mdb"))


@pytest.mark.parametrize("module", [errors, jsonl, mdb, source, tree], ids=lambda module: module.__name__)
def test_examples(module) -> None:
    assert doctest.testmod(module).failed == 0
