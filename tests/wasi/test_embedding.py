"""The host in its embedder: instances, threads, growing memory, ends, the interface for the layers above."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import wasmtime
from wasi_guest import CREAT, ENGINE, MODULE, PAGE, READ, Guest, Mode

import kvwasi.wasi
from kvwasi.wasi import Preopen, UnsupportedWasmtimeError, Wasi, _host


def test_the_store_does_not_pay_for_importing_wasmtime_py() -> None:
    code = "import sys, kvwasi.wasi._host; sys.exit('wasmtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_public_names() -> None:
    assert sorted(kvwasi.wasi.__all__) == ["Preopen", "UnsupportedWasmtimeError", "Wasi", "run_module"]
    assert set(kvwasi.wasi.__all__) <= set(dir(kvwasi.wasi))
    for name in kvwasi.wasi.__all__:
        assert getattr(kvwasi.wasi, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        kvwasi.wasi.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (None, "not installed"),
        ("missing", "no library for this machine"),
        ("/dev/null", "kvwasi needs"),
        ("libc", "has no function"),
    ],
)
def test_a_library_that_does_not_fit(tmp_path: Path, library: str | None, message: str) -> None:
    """Each way in which the package can be wrong is an ImportError that says so."""
    package = tmp_path / "wasmtime"
    if library is not None:
        directory = package / f"{sys.platform}-{os.uname().machine}"
        directory.mkdir(parents=True)
        (package / "__init__.py").write_bytes(b"")
        maps = Path("/proc/self/maps").read_text().splitlines()
        libc = next(line.split()[-1] for line in maps if "/libc.so" in line)
        if library != "missing":
            os.symlink({"libc": libc}.get(library, library), directory / "_libwasmtime.so")
    code = f"""
import sys, importlib.util
real = importlib.util.find_spec
def find_spec(name, package=None):
    if name != "wasmtime":
        return real(name, package)
    if {library is None}:
        return None
    return importlib.util.spec_from_file_location("wasmtime", {str(package / "__init__.py")!r},
        submodule_search_locations=[{str(package)!r}])
importlib.util.find_spec = find_spec
import kvwasi.wasi._host
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "UnsupportedWasmtimeError" in done.stderr
    assert message in done.stderr
    assert issubclass(UnsupportedWasmtimeError, ImportError)


def test_memory_that_grows_and_moves(mode: Mode, root: Path) -> None:
    """The address and size of the guest's memory are those of each call."""
    config = wasmtime.Config()
    config.memory_reservation = 0
    config.memory_reservation_for_growth = 0
    config.memory_may_move = True
    guest = Guest(mode, [(root, "/", True)], engine=wasmtime.Engine(config))
    addresses = {ctypes.addressof(guest.memory.data_ptr(guest.store).contents)}
    fd = guest.open("file", oflags=CREAT)
    vector, result = guest.iovecs((3 * PAGE, 8)), guest.reserve(4)
    guest.check("fd_write", fd, vector, 1, result, errno="FAULT")
    grow = guest.exports["grow"]
    assert isinstance(grow, wasmtime.Func)
    for pages in (2, 10, 40):
        grow(guest.store, pages)
        guest.memory.write(guest.store, b"grown it", 3 * PAGE)
        assert guest.raw("fd_pwrite", fd, vector, 1, 0, result) == "OK"
        addresses.add(ctypes.addressof(guest.memory.data_ptr(guest.store).contents))
    assert len(addresses) > 1
    assert (root / "file").read_bytes() == b"grown it"
    guest.close()


def test_without_attach_the_callers_memory_is_found(mode: Mode, root: Path) -> None:
    guest = Guest(mode, [(root, "/", True)], attach=False)
    guest.write(guest.open("file", oflags=CREAT), b"found")
    assert (root / "file").read_bytes() == b"found"
    guest.close()


def test_a_module_without_memory_traps() -> None:
    text = """(module (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (func (export "go") (drop (call $close (i32.const 3)))))"""
    store, linker = wasmtime.Store(ENGINE), wasmtime.Linker(ENGINE)
    with Wasi(stdin=None, stdout=None, stderr=None) as wasi:
        wasi.add_to_linker(linker)
        wasi.add_to_store(store)
        instance = linker.instantiate(store, wasmtime.Module(ENGINE, text))
        go = instance.exports(store)["go"]
        assert isinstance(go, wasmtime.Func)
        with pytest.raises(wasmtime.WasmtimeError, match="must export its memory"):
            go(store)
        with pytest.raises(ValueError, match="no memory"):
            wasi.attach(store, instance)


def test_each_instance_has_its_own_table(mode: Mode, tmp_path: Path) -> None:
    guests = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(name.encode())
        guests.append(Guest(mode, [(tmp_path / name, "/", True)]))
    assert [guest.open("file") for guest in guests] == [4, 4, 4]
    guests[1].check("fd_close", 4)
    assert guests[0].read(4, 10) + guests[2].read(4, 10) == b"ac"
    guests[1].check("fd_read", 4, 16, 0, 32, errno="BADF")
    for guest in guests:
        guest.close()


def test_instances_in_threads(mode: Mode, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            directory = tmp_path / str(number)
            directory.mkdir()
            guest = Guest(mode, [(directory, "/", True)])
            for i in range(40):
                fd = guest.open(f"file{i % 3}", oflags=CREAT)
                for j in range(30):
                    guest.write(fd, bytes([number]) * 10, at=j * 5)
                assert guest.read(fd, 1000, at=0) == bytes([number]) * 155
                os.truncate(directory / f"file{i % 3}", 0)
                assert guest.read(fd, 155, at=0) in (b"", bytes(155))
                guest.check("fd_filestat_set_size", fd, 0)
                guest.check("fd_close", fd)
            guest.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_a_closed_host_answers_badf(guest: Guest) -> None:
    fd = guest.open("file", oflags=CREAT)
    assert guest.wasi
    guest.wasi.close()
    guest.wasi.close()
    guest.wasi.attach(guest.store, guest.instance)
    guest.check("fd_sync", fd, errno="BADF")
    guest.check("fd_prestat_get", 3, guest.reserve(8), errno="BADF")


def test_a_linker_may_outlive_its_host(root: Path) -> None:
    linker, store = wasmtime.Linker(ENGINE), wasmtime.Store(ENGINE)
    wasi = Wasi(stdin=None, stdout=None, stderr=None, preopens=[Preopen(root, "/")])
    wasi.add_to_linker(linker)
    wasi.add_to_store(store)
    del wasi
    gc.collect()
    instance = linker.instantiate(store, MODULE)
    call = instance.exports(store)["fd_sync"]
    assert isinstance(call, wasmtime.Func)
    assert call(store, 3) == 8


def test_a_linker_with_instances_in_two_stores(guest: Guest, root: Path) -> None:
    """The one that is attached is quicker; the other's calls work on its own memory."""
    linker, store = wasmtime.Linker(ENGINE), wasmtime.Store(ENGINE)
    assert guest.wasi
    guest.wasi.add_to_linker(linker)
    guest.wasi.add_to_store(store)
    other = linker.instantiate(store, MODULE).exports(store)
    memory, call = other["memory"], other["fd_prestat_get"]
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(call, wasmtime.Func)
    before = guest.get(0, guest.size)
    assert call(store, 3, 64) == 0
    assert memory.read(store, 64, 72) == b"\0\0\0\0\1\0\0\0"
    assert guest.get(0, guest.size) == before


def test_every_descriptor_is_closed_at_the_end(mode: Mode, root: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        guest = Guest(mode, [(root, "/", True)], stdin=0, stdout=1, stderr=2)
        for i in range(5):
            guest.open(f"file{i}", oflags=CREAT)
        guest.close()
    with pytest.raises(FileNotFoundError):
        Wasi(preopens=[Preopen(root, "/"), Preopen(root / "missing", "/m")])
    assert os.listdir("/proc/self/fd") == before


def test_read_for_the_layers_above(mode: Mode, root: Path) -> None:
    content = os.urandom(300_000)
    (root / "file").write_bytes(content)
    guest = Guest(mode, [(root, "/", True)])
    assert guest.wasi
    host = guest.wasi._host
    fd = guest.open("file", rights=READ)
    for offset, length in [(0, 0), (0, 1), (5, 100), (4090, 20), (0, 300_000), (299_990, 100), (300_000, 5)]:
        assert host.read(fd, offset, length) == content[offset : offset + length]
    assert host.read(fd, 1 << 50, 10) == b""
    os.truncate(root / "file", 1000)
    assert host.read(fd, 100_000, 10) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        host.read(99, 0, 1)
    with pytest.raises(OSError, match="Invalid argument"):
        host.read(fd, 1 << 63, 1)
    guest.close()


def test_datasync_from_another_thread(mode: Mode, root: Path) -> None:
    """While the guest opens and closes, another thread may flush any descriptor: 0 or EBADF, nothing else."""
    guest = Guest(mode, [(root, "/", True)])
    assert guest.wasi
    host = guest.wasi._host
    outcomes: set[int] = set()
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            try:
                host.datasync(4)
                outcomes.add(0)
            except OSError as error:
                outcomes.add(error.errno or -1)

    thread = threading.Thread(target=flush)
    thread.start()
    for i in range(200):
        fd = guest.open(f"f{i % 5}", oflags=CREAT)
        guest.write(fd, b"x" * 100)
        guest.raw("fd_close", fd)
    guest.open("f0")
    stop.set()
    thread.join()
    host.datasync(4)
    assert outcomes <= {0, 9}
    guest.close()


def test_self_test_passes() -> None:
    _host.self_test()
    assert _host.library_path.endswith(".so")
