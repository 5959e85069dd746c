"""The pages of docs/: their code runs, what they name is there, and nothing is missing from them."""

import os
import re
from pathlib import Path
from typing import Any

import lmdb
import pytest

import kvwasi
import kvwasi.errors

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("from-*.md"))

# The public functions of FlashDB 2.0 (flashdb.h) and its control commands (fdb_def.h).
FLASHDB = [
    "fdb_kvdb_init",
    "fdb_kvdb_deinit",
    "fdb_tsdb_init",
    "fdb_tsdb_deinit",
    "fdb_blob_make",
    "fdb_blob_read",
    "fdb_kv_set",
    "fdb_kv_get",
    "fdb_kv_set_blob",
    "fdb_kv_get_blob",
    "fdb_kv_del",
    "fdb_kv_get_obj",
    "fdb_kv_to_blob",
    "fdb_kv_set_default",
    "fdb_kv_print",
    "fdb_kv_iterator_init",
    "fdb_kv_iterate",
    "fdb_tsl_append",
    "fdb_tsl_append_with_ts",
    "fdb_tsl_iter",
    "fdb_tsl_iter_reverse",
    "fdb_tsl_iter_by_time",
    "fdb_tsl_query_count",
    "fdb_tsl_set_status",
    "fdb_tsl_clean",
    "fdb_tsl_to_blob",
    "fdb_calc_crc32",
    "FDB_KVDB_CTRL_SET_SEC_SIZE",
    "FDB_KVDB_CTRL_GET_SEC_SIZE",
    "FDB_KVDB_CTRL_SET_LOCK",
    "FDB_KVDB_CTRL_SET_UNLOCK",
    "FDB_KVDB_CTRL_SET_FILE_MODE",
    "FDB_KVDB_CTRL_SET_MAX_SIZE",
    "FDB_KVDB_CTRL_SET_NOT_FORMAT",
    "FDB_TSDB_CTRL_SET_SEC_SIZE",
    "FDB_TSDB_CTRL_GET_SEC_SIZE",
    "FDB_TSDB_CTRL_SET_LOCK",
    "FDB_TSDB_CTRL_SET_UNLOCK",
    "FDB_TSDB_CTRL_SET_ROLLOVER",
    "FDB_TSDB_CTRL_GET_ROLLOVER",
    "FDB_TSDB_CTRL_GET_LAST_TIME",
    "FDB_TSDB_CTRL_SET_FILE_MODE",
    "FDB_TSDB_CTRL_SET_MAX_SIZE",
    "FDB_TSDB_CTRL_SET_NOT_FORMAT",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_named_is_there(page: Path) -> None:
    text = re.sub(
        r"^\| `[^|]*\|", "|", page.read_text(), flags=re.MULTILINE
    )  # the first cell names the other's
    named = set(re.findall(r"`(kvwasi|[A-Z]\w+)\.(\w+)", text))
    assert len(named) > 10
    for owner, name in named:
        of: Any = kvwasi if owner == "kvwasi" else getattr(kvwasi, owner, None)
        assert of is not None and hasattr(of, name), f"{owner}.{name}"
    for path in re.findall(r"`([\w-]+/[\w/.-]+\.\w+)`", page.read_text()):
        assert os.path.exists(ROOT / path), path
    for option in re.findall(r"`kvwasi\.open\([^`]*?(\w+)=\.\.\.", page.read_text()):
        assert option in (kvwasi.open.__kwdefaults__ or {}), option


def rows(page: str) -> dict[str, list[str]]:
    """What each table row names first, with its cells."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    cells = [line.split("|") for line in lines if line.startswith("| `")]
    return {name: row for row in cells for name in re.findall(r"`([\w. -]+)`", row[1])}


def test_all_of_py_lmdb_has_a_row() -> None:
    """Public names of its classes, and the arguments of what makes them, as its signatures have them."""
    here = rows("from-lmdb.md")
    classes = {"Environment": lmdb.Environment, "Transaction": lmdb.Transaction, "Cursor": lmdb.Cursor}
    for name, of in classes.items():
        for method in dir(of):
            if not method.startswith("_"):
                assert f"{name}.{method}" in here, f"{name}.{method}"
    arguments = """map_size subdir readonly metasync sync map_async mode create readahead writemap meminit
        max_readers max_dbs max_spare_txns lock parent buffers reverse_key dupsort integerkey integerdup
        dupfixed"""
    for argument in arguments.split():
        assert argument in here, argument
    for name, row in here.items():
        for test in re.findall(r"(tests/[\w/]+\.py)", row[-2]):
            assert (ROOT / test).exists(), test
        assert row[2].strip(), name


def test_all_of_flashdb_has_a_row() -> None:
    here = rows("from-flashdb.md")
    assert set(FLASHDB) <= set(here)
    for name in FLASHDB:
        assert here[name][2].strip(), name


def test_each_error_is_told_of_with_what_else_it_is() -> None:
    rows: dict[str, set[str]] = {}
    for line in (ROOT / "docs/errors.md").read_text().splitlines():
        cells = line.split("|")
        for name in re.findall(r"`(\w+)`", cells[1]) if line.startswith("| `") else []:
            rows[name] = set(re.findall(r"`(\w+)`", cells[2]))
    assert set(rows) == set(kvwasi.errors.__all__) - {"KvError"}
    for name, others in rows.items():
        error = getattr(kvwasi.errors, name)
        bases = {base.__name__ for base in error.__bases__} - {"KvError", "TransactionError"}
        assert others == bases, name
