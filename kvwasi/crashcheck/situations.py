"""What may stand in the place of a database, or happen to it and its process while it is open.

Each is a function called with an empty directory, in a process of its own; it answers what is wrong (empty:
nothing). Right is: the right data, or a typed error of one line, and no harm to what was there before.
"""

import errno
import os
import signal
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvwasi.crashcheck.craft import seal
from kvwasi.crashcheck.kills import killed_at_every_call, killed_beside_readers, killed_while_many_write
from kvwasi.crashcheck.layout import SUPERBLOCK_SLOTS
from kvwasi.crashcheck.pool import Lost, run_tasks
from kvwasi.crashcheck.record import scratch_directory
from kvwasi.wasi.trace import GO_ON, Result, StorageCall, Verdict, watch_new_hosts

__all__ = ["SITUATIONS", "reproduce_situation", "run_situations"]

ENTRIES = 300
MEMORY_STEP = 1 << 16
MEMORY_FROM = 26 << 16
"""Less than this, and the module does not even start."""
MEMORY_STEPS = 70
NOBODY = 65534


def _fill(path: Path) -> dict[bytes, bytes]:
    import kvwasi

    with kvwasi.open(path, sync="none", sector_bytes=256 << 10) as store:
        store.put_many((b"key-%03d" % number, b"%d" % number * 50) for number in range(ENTRIES))
        return dict(store.items())


def _refuses(path: Path, flags: str = "crwn", *errors: type[BaseException]) -> str:
    """What is wrong if opening is not refused by an error of the package."""
    import kvwasi

    for flag in flags:
        try:
            kvwasi.open(path, flag).close()  # type: ignore[arg-type]
        except kvwasi.KvError as error:
            if (
                type(error) is kvwasi.EngineError
                or "\n" in str(error)
                or (errors and not isinstance(error, errors))
            ):
                return f"flag {flag}: {type(error).__name__}: {error}"
        else:
            return f"flag {flag}: it opens"
    return ""


def _holds(path: Path, expected: dict[bytes, bytes]) -> str:
    import kvwasi

    with kvwasi.open(path, "w") as store:
        if dict(store.items()) != expected:
            return "it holds something else"
        return "; ".join(map(str, store.check()))


def symlink_to_a_database(place: Path) -> str:
    expected = _fill(place / "real.kv")
    (place / "a.kv").symlink_to("real.kv")
    return _holds(place / "a.kv", expected) or _holds(place / "real.kv", expected)


def symlink_to_nothing(place: Path) -> str:
    (place / "a.kv").symlink_to("nowhere.kv")
    return _refuses(place / "a.kv", "rw")


def symlink_to_itself(place: Path) -> str:
    (place / "a.kv").symlink_to("a.kv")
    return _refuses(place / "a.kv")


def fifo(place: Path) -> str:
    os.mkfifo(place / "a.kv")
    return _refuses(place / "a.kv") or (
        "" if stat.S_ISFIFO(os.stat(place / "a.kv").st_mode) else "it is gone"
    )


def directory(place: Path) -> str:
    (place / "a.kv").mkdir()
    (place / "a.kv" / "inside").write_bytes(b"x")
    return _refuses(place / "a.kv") or ("" if (place / "a.kv" / "inside").exists() else "it is gone")


def device(place: Path) -> str:
    return _refuses(Path("/dev/null")) or _refuses(Path("/dev/zero"), "cw")


def socket_file(place: Path) -> str:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "a.kv"))
        return _refuses(place / "a.kv")


def no_directory(place: Path) -> str:
    return _refuses(place / "missing" / "a.kv")


def a_file_as_directory(place: Path) -> str:
    (place / "file").write_bytes(b"x")
    return _refuses(place / "file" / "a.kv")


def a_newer_version(place: Path) -> str:
    import kvwasi

    _fill(place / "a.kv")
    content = bytearray((place / "a.kv").read_bytes())
    for slot in SUPERBLOCK_SLOTS:
        content[slot + 16] += 1
        seal(content, "superblock", slot)
    (place / "a.kv").write_bytes(content)
    return _refuses(place / "a.kv", "crw", kvwasi.VersionError)


def read_only_file(place: Path) -> str:
    with _as_nobody(place):
        expected = _fill(place / "a.kv")
        (place / "a.kv").chmod(0o444)
        return _refuses(place / "a.kv", "cw") or _reads(place / "a.kv", expected)


def read_only_directory(place: Path) -> str:
    with _as_nobody(place):
        expected = _fill(place / "a.kv")
    place.chmod(0o555)
    try:
        with _as_nobody():
            return _reads(place / "a.kv", expected) or _refuses(place / "b.kv")
    finally:
        place.chmod(0o777)


@contextmanager
def _as_nobody(place: Path | None = None) -> Iterator[None]:
    """As a user whom permissions stop, but not in ``place``."""
    if os.geteuid() != 0:
        yield
        return
    if place is not None:
        place.chmod(0o777)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def _reads(path: Path, expected: dict[bytes, bytes]) -> str:
    """Reading gives what is there, and changes no byte."""
    import kvwasi

    before = path.read_bytes()
    with kvwasi.open(path, "r") as store:
        found = dict(store.items())
    if found != expected:
        return "reading shows something else"
    return "" if path.read_bytes() == before else "reading changed it"


def reading_changes_nothing(place: Path) -> str:
    """Not even with a log to replay, as a killed writer leaves it."""
    import kvwasi

    child = os.fork()
    if child == 0:
        store = kvwasi.open(place / "a.kv", sync="none", sector_bytes=256 << 10)
        for number in range(ENTRIES):
            store.put(b"%d" % number, bytes(100))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    return _reads(place / "a.kv", {b"%d" % number: bytes(100) for number in range(ENTRIES)})


def two_openers(place: Path) -> str:
    """One may write; others may read meanwhile."""
    import kvwasi

    expected = _fill(place / "a.kv")
    with kvwasi.open(place / "a.kv") as store:
        found = _refuses(place / "a.kv", "cwn", kvwasi.DatabaseLockedError)
        child = os.fork()
        if child == 0:
            with kvwasi.open(place / "a.kv", "r") as reader:
                shown = dict(reader.items()) == expected
            os._exit(0 if shown and not _refuses(place / "a.kv", "cwn", kvwasi.DatabaseLockedError) else 1)
        if os.waitpid(child, 0)[1]:
            found = found or "another process is not refused, or does not read"
        store.put(b"key-000", b"after")
    return found or _holds(place / "a.kv", expected | {b"key-000": b"after"})


def fork_while_open(place: Path) -> str:
    """The child's copies are dead; the parent's go on and hold the lock."""
    import kvwasi

    expected = _fill(place / "a.kv")
    with kvwasi.open(place / "a.kv") as store, store.snapshot() as snapshot:
        child = os.fork()
        if child == 0:
            os._exit(_in_child(store, snapshot))
        _, status = os.waitpid(child, 0)
        store.put(b"key-000", b"after")
        found = _refuses(place / "a.kv", "w", kvwasi.DatabaseLockedError)
    if os.waitstatus_to_exitcode(status):
        return f"the child ends with {os.waitstatus_to_exitcode(status)}"
    return found or _holds(place / "a.kv", expected | {b"key-000": b"after"})


def _in_child(store: Any, snapshot: Any) -> int:
    import kvwasi

    calls: list[Callable[[], object]] = [
        lambda: store.put(b"x", b"y"),
        lambda: store.get(b"key-001"),
        lambda: snapshot.get(b"key-001"),
    ]
    for call in calls:
        try:
            call()
            return 1
        except kvwasi.KvError:
            pass
    store.close()
    return 0


def unlinked_while_open(place: Path) -> str:
    """It goes on; another one can be made in its place."""
    import kvwasi

    expected = _fill(place / "a.kv")
    with kvwasi.open(place / "a.kv") as store:
        os.unlink(place / "a.kv")
        store.put(b"key-000", b"after")
        if dict(store.items()) != expected | {b"key-000": b"after"}:
            return "it shows something else"
        with suppress_kv_errors():
            store.compact()
    with kvwasi.open(place / "a.kv") as store:
        return "" if dict(store.items()) in ({}, expected | {b"key-000": b"after"}) else "half of it is there"


def replaced_while_open(place: Path) -> str:
    """Another database in its place is not harmed by the one that is open."""
    import kvwasi

    _fill(place / "a.kv")
    with kvwasi.open(place / "b.kv") as store:
        store["other"] = "one"
    with kvwasi.open(place / "a.kv") as store:
        os.replace(place / "b.kv", place / "a.kv")
        with suppress_kv_errors():
            for number in range(50):
                store.put(b"%d" % number, bytes(5000))
    return _holds(place / "a.kv", {b"other": b"one"})


def truncated_while_open(place: Path) -> str:
    """Somebody else cuts the file: errors, no signals."""
    import kvwasi

    expected = _fill(place / "a.kv")
    with suppress_kv_errors(), kvwasi.open(place / "a.kv") as store:
        os.truncate(place / "a.kv", 9000)
        for key, value in expected.items():
            with suppress_kv_errors():
                if store.get(key) not in (value, None):
                    return "a value is something else"
        with suppress_kv_errors():
            store.put(b"more", bytes(70_000))
    return ""


@contextmanager
def suppress_kv_errors() -> Iterator[None]:
    """Errors of the package are an answer; one of the engine's own making is not."""
    import kvwasi

    try:
        yield
    except kvwasi.KvError as error:
        if type(error) is kvwasi.EngineError:
            raise


def memory_refused(place: Path) -> str:
    """At each size of the guest's memory some allocation is the first that is refused."""
    import kvwasi
    from kvwasi.engine import _engine

    before, refused, bad = _fill(place / "a.kv"), 0, ""
    try:
        for step in range(MEMORY_STEPS):
            _engine.limit_memory(MEMORY_FROM + step * MEMORY_STEP)
            try:
                _work(place / "a.kv")
            except kvwasi.EngineError as error:
                bad = "" if "exit status 70" in str(error) and step < 2 else f"{step}: EngineError: {error}"
            except kvwasi.OutOfMemoryError:
                refused += 1
            _engine.limit_memory(0)
            with kvwasi.open(place / "a.kv", "w") as store:
                found = dict(store.items())
                if any(found.get(key) != value for key, value in before.items()) or store.check():
                    bad = f"{step}: the database is not as it was"
            if bad:
                return bad
    finally:
        _engine.limit_memory(0)
    return "" if refused > MEMORY_STEPS / 4 else "nothing was refused"


def _work(path: Path) -> None:
    import kvwasi

    with kvwasi.open(path) as store:
        with store.transaction() as transaction:
            transaction.put_many((b"more-%04d" % number, bytes(100)) for number in range(2000))
        list(store.items())
        store.check()
        with store.transaction() as transaction:
            for number in range(2000):
                transaction.delete(b"more-%04d" % number)
        store.put(b"large", bytes(100_000))
        store.delete(b"large")
        store.compact()


def full_disk_at_creation(place: Path) -> str:
    """The first write fails: no database, and no remains of one."""
    import kvwasi

    class Full:
        def before(self, call: StorageCall) -> Verdict:
            return Verdict(errno.ENOSPC) if call.operation == "write" else GO_ON

        def after(self, result: Result) -> None:
            """Nothing."""

    with watch_new_hosts(Full()):
        found = _refuses(place / "a.kv", "c", kvwasi.DiskFullError)
    left = [entry.name for entry in place.iterdir() if not entry.name.endswith("-lock")]
    return found or ("; ".join(left) and f"left behind: {left}")


_ALL: tuple[Callable[[Path], str], ...] = (
    symlink_to_a_database,
    symlink_to_nothing,
    symlink_to_itself,
    fifo,
    directory,
    device,
    socket_file,
    no_directory,
    a_file_as_directory,
    a_newer_version,
    read_only_file,
    read_only_directory,
    reading_changes_nothing,
    two_openers,
    fork_while_open,
    unlinked_while_open,
    replaced_while_open,
    truncated_while_open,
    memory_refused,
    killed_at_every_call,
    killed_while_many_write,
    killed_beside_readers,
    full_disk_at_creation,
)
SITUATIONS = {function.__name__.replace("_", "-"): function for function in _ALL}


def run_situations(names: tuple[str, ...] = tuple(SITUATIONS)) -> list[tuple[str, str]]:
    """Each of them, in a process of its own: its name and what was wrong."""
    found = []

    def work(task: int, report: Callable[[Any], None], place_of: Callable[[int], None]) -> None:
        with tempfile.TemporaryDirectory(dir=scratch_directory()) as place:
            try:
                report(SITUATIONS[names[task]](Path(place)))
            except Exception as error:
                report(f"{type(error).__name__}: {error}")

    for task, result in run_tasks(len(names), work):
        found.append((names[task], f"ended by {result.why}" if isinstance(result, Lost) else result))
    return found


def reproduce_situation(text: str) -> str:
    """One of them, by its name after ``situation/``. Raises KeyError."""
    name = text.removeprefix("situation/")
    if name not in SITUATIONS:
        raise KeyError(name)
    return run_situations((name,))[0][1]
