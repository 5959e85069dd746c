"""The extension module's own corners: what a user of the public API cannot reach."""

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

import kvwasi
from kvwasi.engine import _engine


@given(st.binary(max_size=300), st.integers(0, (1 << 64) - 1))
def test_hash64_is_xxh64(data: bytes, seed: int) -> None:
    assert _engine.hash64(data, seed) == xxhash.xxh64_intdigest(data, seed)


@given(st.binary(max_size=5))
def test_prefix_stop(prefix: bytes) -> None:
    stop = _engine.prefix_stop(prefix)
    if stop is None:
        assert prefix.strip(b"\xff") == b""
    else:
        assert prefix < stop
        assert prefix + b"\xff" * 9 < stop
        assert not stop.startswith(prefix) or not prefix


def test_verbs_are_made_by_stores_only() -> None:
    with pytest.raises(TypeError):
        _engine.Reads()
    with pytest.raises(TypeError):
        _engine.Verbs()
    with pytest.raises(TypeError):
        _engine.SnapshotVerbs(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _engine.TableVerbs(None, b"t")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _engine.SnapshotTableVerbs(None, b"t")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _engine.StoreVerbs(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _engine.TransactionVerbs(None, True)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _engine.EntryIterator(None, None, None, False, 0, None)  # type: ignore[arg-type]


def test_a_module_that_is_none() -> None:
    with pytest.raises(kvwasi.EngineError):
        _engine.module_compile(b"\0asm is not all")
