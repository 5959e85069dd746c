"""Every status of the guest and of the engine layer has its exception."""

import errno
import re
from pathlib import Path

import pytest

from kvwasi import errors
from kvwasi.engine import status

ROOT = Path(__file__).resolve().parents[2]


def constants(header: str, prefix: str) -> dict[str, int]:
    text = (ROOT / header).read_text()
    return {name: int(value) for name, value in re.findall(rf"\b({prefix}_\w+) = (\d+),", text)}


GUEST = {
    name: number
    for name, number in constants("guest-db/include/kv_guest.h", "KV").items()
    if number >= 16 and not name.startswith("KV_DETAIL")
}
LAYER = constants("kvwasi/engine/native/session.h", "KVE")
SIGNALS = {"KVE_MUST_WAIT", "KVE_SLICE"}  # never reach a user


@pytest.mark.parametrize("name", sorted((GUEST | LAYER).keys() - SIGNALS))
def test_each_has_an_exception(name: str) -> None:
    number = (GUEST | LAYER)[name]
    error = status.error(number, "/some/my.kv", 77, 4, 29, "unreachable")
    assert isinstance(error, errors.KvError)
    assert str(error)
    assert "unexpected" not in str(error)


def test_they_are_all_here() -> None:
    assert len(GUEST) == 19
    assert set(GUEST.values()) == set(range(16, 35))
    assert LAYER


def test_what_they_say() -> None:
    corrupt = status.error(GUEST["KV_CORRUPT"], "/some/my.kv", 77, 3, 0, "")
    assert isinstance(corrupt, errors.CorruptionError)
    assert (corrupt.offset, corrupt.kind) == (77, "record")
    full = status.error(GUEST["KV_DISK_FULL"], "/some/my.kv", 0, 0, 51, "")
    assert isinstance(full, errors.DiskFullError)
    assert (full.errno, full.filename) == (errno.ENOSPC, "/some/my.kv")
    trap = status.error(LAYER["KVE_BROKEN"], "/some/my.kv", 0, 0, 0, "wasm trap: unreachable")
    assert "wasm trap: unreachable" in str(trap)
    assert type(status.error(99, "/some/my.kv", 0, 0, 0, "")) is errors.EngineError


def test_numbers_stated_twice_agree() -> None:
    assert GUEST["KV_KEY_EMPTY"] == status.KEY_EMPTY
    assert GUEST["KV_KEY_TOO_LARGE"] == status.KEY_TOO_LARGE
    assert GUEST["KV_VALUE_TOO_LARGE"] == status.VALUE_TOO_LARGE
    kinds = {
        n.removeprefix("KV_DETAIL_"): v
        for n, v in constants("guest-db/include/kv_guest.h", "KV_DETAIL").items()
    }
    for name, number in kinds.items():
        if number:
            assert status.problem_kind(number) == name.lower().removesuffix("_header")


@pytest.mark.parametrize(
    ("wasi", "native"),
    [
        (2, errno.EACCES),
        (29, errno.EIO),
        (44, errno.ENOENT),
        (51, errno.ENOSPC),
        (69, errno.EROFS),
        (75, errno.EXDEV),
        (76, errno.EACCES),
        (0, errno.EIO),
        (999, errno.EIO),
    ],
)
def test_errno(wasi: int, native: int) -> None:
    assert status.os_errno(wasi) == native
