"""The examples of the public docstrings run; every public name is documented and listed."""

import doctest
import inspect
from types import ModuleType

import pytest

import kvwasi
from kvwasi import cursor, errors, ranges, savepoint, snapshot, store, table, transaction

HANDLES = (
    kvwasi.Store,
    kvwasi.Cursor,
    kvwasi.Savepoint,
    kvwasi.Snapshot,
    kvwasi.Table,
    kvwasi.Transaction,
)


@pytest.mark.parametrize(
    "module",
    [kvwasi, store, cursor, savepoint, snapshot, table, transaction, ranges, errors],
    ids=lambda m: m.__name__,
)
def test_examples(module: ModuleType) -> None:
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_examples() -> None:
    for documented in (kvwasi, kvwasi.open, *HANDLES):
        assert ">>>" in (documented.__doc__ or "")


def test_all_is_what_there_is() -> None:
    modules = {name for name, value in vars(kvwasi).items() if inspect.ismodule(value)}
    public = {name for name in vars(kvwasi) if not name.startswith("_")} - modules
    assert public == set(kvwasi.__all__)
    assert len(kvwasi.__all__) == len(set(kvwasi.__all__))


def test_all_of_the_errors() -> None:
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert classes == set(errors.__all__)
    assert all(issubclass(getattr(errors, name), errors.KvError) for name in errors.__all__)
    assert kvwasi.error is kvwasi.KvError


def test_every_public_method_is_documented() -> None:
    for owner in (*HANDLES, kvwasi.SnapshotTable):
        for name in dir(owner):
            if not name.startswith("_") and name not in ("fromkeys",):
                assert inspect.getdoc(getattr(owner, name)), f"{owner.__name__}.{name}"
    for name in kvwasi.__all__:
        assert inspect.getdoc(getattr(kvwasi, name)), name


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (kvwasi.KeyNotFoundError, KeyError),
        (kvwasi.KeyEmptyError, ValueError),
        (kvwasi.KeyTooLargeError, ValueError),
        (kvwasi.ValueTooLargeError, ValueError),
        (kvwasi.ClosedError, ValueError),
        (kvwasi.ForkedError, kvwasi.ClosedError),
        (kvwasi.TransactionTimeoutError, TimeoutError),
        (kvwasi.TooManySavepointsError, kvwasi.TransactionError),
        (kvwasi.NoSuchTableError, LookupError),
        (kvwasi.DatabaseExistsError, FileExistsError),
        (kvwasi.NoSuchDatabaseError, FileNotFoundError),
        (kvwasi.StorageError, OSError),
        (kvwasi.DiskFullError, kvwasi.StorageError),
        (kvwasi.OutOfMemoryError, MemoryError),
    ],
)
def test_errors_are_python_s_too(error: type[Exception], base: type[Exception]) -> None:
    assert issubclass(error, base)
