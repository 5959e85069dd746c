"""``kvwasi watch``."""

import json
import subprocess
import threading
from pathlib import Path

import kvwasi


def begin(command: str, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [command, "watch", "a.kv", "--interval", "0.01", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(watching: subprocess.Popen[str], count: int) -> list[str]:
    assert watching.stdout is not None
    return [watching.stdout.readline().rstrip("\n") for _ in range(count)]


def until_it_watches(store: kvwasi.Store, watching: subprocess.Popen[str], key: str) -> None:
    """Change a key until the first change is shown: by then the first look is over."""
    assert watching.stdout is not None
    stop = False

    def change() -> None:
        number = 0
        while not stop:
            number += 1
            store[key] = str(number)
            threading.Event().wait(0.01)

    thread = threading.Thread(target=change)
    thread.start()
    assert watching.stdout.readline().startswith(f"put\t{key}\t")
    stop = True
    thread.join()
    store[key] = "settled"
    while watching.stdout.readline() != f"put\t{key}\tsettled\n":
        pass


def test_changes_beside_a_writer(command: str, tmp_path: Path) -> None:
    with kvwasi.open(tmp_path / "a.kv") as store:
        store.put_many({"user/1": "ada", "user/2": "grace", "other": "x"})
        with begin(command, tmp_path, "--prefix", "user/") as watching:
            until_it_watches(store, watching, "user/0")
            store["other"] = "y"
            store["user/2"] = "hopper"
            assert lines(watching, 1) == ["put\tuser/2\thopper"]
            with store.transaction() as t:
                t["user/3"] = "alan"
                del t["user/1"]
            assert lines(watching, 2) == ["delete\tuser/1", "put\tuser/3\talan"]
            watching.terminate()


def test_a_number_of_changes_as_json(kv, command: str, tmp_path: Path) -> None:
    with kvwasi.open(tmp_path / "a.kv") as store:
        store.table("t")["k"] = "0"
        with begin(command, tmp_path, "--table", "t", "--json", "--count", "1") as watching:
            number = 0
            while watching.poll() is None:
                number += 1
                store.table("t")["k"] = str(number)
            out = watching.communicate(timeout=60)[0]
        assert watching.returncode == 0
    change = json.loads(out)
    assert change["change"] == "put" and change["key"] == "k" and 0 < int(change["value"]) <= number


def test_entries_of_a_series(command: str, tmp_path: Path) -> None:
    with kvwasi.open(tmp_path / "a.kv") as store:
        series = store.series("s")
        series.append(1.5, 0)
        with begin(command, tmp_path, "--series", "s", "--count", "50") as watching:
            at = 0
            while watching.poll() is None:
                at += 10**9
                series.append(at / 10**9, at)
            out = watching.communicate(timeout=60)[0]
    shown = [line.split("\t") for line in out.splitlines()]
    values = [float(value) for _, value in shown]
    assert len(values) == 50 and values == [values[0] + n for n in range(50)]  # none left out, none twice
    assert shown[0][0].startswith("1970-01-01T") and values[0] >= 1


def test_wrong_usage(kv) -> None:
    kv("put", "a.kv", "k", "v")
    assert b"neither a prefix" in kv("watch", "a.kv", "--series", "s", "--prefix", "p", code=2).stderr
    kv("watch", "none.kv", code=1)
