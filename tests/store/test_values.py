"""Values of every size, whole and untouched; damage is found."""

import hashlib
import os
import random
from pathlib import Path

import pytest

import kvwasi

KIB, MIB = 1 << 10, 1 << 20
SIZES = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1, 5 * MIB, 5 * MIB + 3]


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(size * 31 + seed).randbytes(size)


@pytest.mark.parametrize("sync", ["commit", "none"])
def test_sizes(path: Path, sync: str) -> None:
    with kvwasi.open(path, sync=sync) as store:  # type: ignore[arg-type]
        for size in SIZES:
            store[f"{size}"] = content(size)
            assert store[f"{size}"] == content(size)
        with store.transaction() as t:
            for size in SIZES:
                t[f"t{size}"] = memoryview(content(size, 1))
                assert t[f"t{size}"] == content(size, 1)
        store.put_many((f"m{size}", bytearray(content(size, 2))) for size in SIZES)
        _compare(store)
        store.compact()
        _compare(store)
        assert store.check() == []
    with kvwasi.open(path, "r") as store:
        _compare(store)


def _compare(store: kvwasi.Store) -> None:
    expected = {
        f"{prefix}{size}".encode(): content(size, seed)
        for size in SIZES
        for seed, prefix in enumerate(("", "t", "m"))
    }
    assert dict(store.items()) == expected
    keys = sorted(expected)
    assert store.get_many(keys) == [expected[key] for key in keys]
    assert list(store.values(reverse=True)) == [expected[key] for key in reversed(keys)]


def test_a_large_value_is_replaced_and_refused(store: kvwasi.Store) -> None:
    store["k"] = content(3 * MIB)
    assert store.put("k", content(2 * MIB), overwrite=False) is False
    assert store["k"] == content(3 * MIB)
    store["k"] = content(2 * MIB)
    assert store.pop("k") == content(2 * MIB)
    assert "k" not in store


def test_an_iterator_keeps_large_values_that_are_deleted(store: kvwasi.Store) -> None:
    store.put_many((f"{n}", content(400 * KIB, n)) for n in range(8))
    iterator = iter(store.items())
    first = next(iterator)
    store.clear()
    store.put_many((f"x{n}", content(400 * KIB, -n)) for n in range(8))
    store.compact()
    assert [first, *iterator] == [(b"%d" % n, content(400 * KIB, n)) for n in range(8)]


def test_too_large(store: kvwasi.Store) -> None:
    too_large = memoryview(_Zeros((1 << 30) + 1))
    for call in (lambda: store.put("k", too_large), lambda: store.put_many([("k", too_large)])):
        with pytest.raises(kvwasi.ValueTooLargeError):
            call()
    assert len(store) == 0


def _Zeros(size: int) -> "memoryview":
    """That many zero bytes which take no memory."""
    import mmap

    return memoryview(mmap.mmap(-1, size))


@pytest.mark.skipif("KVWASI_LARGE" not in os.environ, reason="1 GiB: set KVWASI_LARGE=1")
@pytest.mark.timeout(600)
def test_the_largest_value(path: Path) -> None:
    size = 1 << 30
    value = content(MIB) * (size // MIB)
    digest = hashlib.blake2b(value).digest()
    with kvwasi.open(path) as store:
        store["k"] = value
        del value
        assert store.stats().memory_bytes < 64 * MIB
    with kvwasi.open(path, "r") as store:
        assert hashlib.blake2b(store["k"]).digest() == digest


@pytest.mark.parametrize("size", [1, 100, 60_000, 100_000, 3 * MIB])
def test_damage_is_found(path: Path, size: int) -> None:
    mark = content(size, 9) if size > 1 else b"\xa7"
    with kvwasi.open(path) as store:
        store["good"] = "fine"
        store["key" if size > 1 else "unmistakable-key"] = mark
        store["last"] = "fine"
    image = bytearray(path.read_bytes())
    key = b"key" if size > 1 else b"unmistakable-key"
    at = image.find(mark) if size > 1 else image.find(key) + len(key)
    assert image[at : at + size] == mark
    for position in {0, size // 2, size - 1}:
        image[at + position] ^= 0x40
        path.write_bytes(image)
        image[at + position] ^= 0x40
        with kvwasi.open(path, "r") as store:
            assert store["good"] == store["last"] == b"fine"
            for call in (
                lambda: store[key],
                lambda: store.get_many([b"good", key]),
                lambda: list(store.values()),
                lambda: dict(store.items(prefix=key)),
            ):
                with pytest.raises(kvwasi.CorruptionError) as caught:
                    call()
                assert caught.value.kind == "value"
                assert caught.value.offset == at
                assert str(at) in str(caught.value)
            assert list(store) == sorted([b"good", key, b"last"])
            problems = store.check()
            assert [(problem.kind, problem.key) for problem in problems] == [("value", key)]


def test_an_iterator_gives_what_comes_before_the_damage(path: Path) -> None:
    with kvwasi.open(path) as store:
        store.put_many((f"{n:03}", f"value-{n:03}") for n in range(100))
    image = bytearray(path.read_bytes())
    image[image.find(b"value-050")] ^= 1
    path.write_bytes(image)
    seen = []
    with kvwasi.open(path, "r") as store:
        iterator = iter(store.values())
        with pytest.raises(kvwasi.CorruptionError):
            seen.extend(iterator)
        assert seen == [b"value-%03d" % n for n in range(50)]
        assert list(iterator) == [b"value-%03d" % n for n in range(51, 100)]
