"""What other processes may do to a file under a guest, in either sharing mode; windows and their guard."""

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wasi_guest import APPEND, CREAT, READ, WRITE, Guest, Mode

PAGE = mmap.PAGESIZE


def windows(path: Path) -> list[str]:
    """Protections of this process's mappings of a file."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line.split()[1] for line in lines if line.endswith(str(path))]


def elsewhere(code: str, path: Path) -> None:
    """Run Python code in another process, with the file's name in ``path``."""
    program = f"import os, sys; path = sys.argv[1]; {code}"
    subprocess.run([sys.executable, "-S", "-c", program, str(path)], check=True)


def test_which_mode_maps(mode: Mode, guest: Guest, root: Path) -> None:
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, bytes(3 * PAGE))
    assert windows(root / "file") == []
    guest.read(fd, 10, at=5)
    assert windows(root / "file") == (["r--s"] if mode == "exclusive" else [])
    for i in range(100):
        guest.write(fd, b"x", at=i)
    assert windows(root / "file") == (["rw-s"] if mode == "exclusive" else [])
    for i in range(300):  # growth leaves the window as it is
        guest.write(fd, bytes(PAGE), at=i * PAGE)
        assert guest.read(fd, 1, at=i * PAGE) == b"\0"
    assert len(windows(root / "file")) == (1 if mode == "exclusive" else 0)
    guest.check("fd_close", fd)
    guest.close()
    assert windows(root / "file") == []


def test_a_write_now_and_then_is_no_store(guest: Guest, root: Path) -> None:
    """One write after each flush is cheaper as a system call, and goes that way."""
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, bytes(PAGE))
    for i in range(50):
        guest.write(fd, b"commit", at=i * 6)
        guest.check("fd_datasync", fd)
    assert "rw-s" not in windows(root / "file")


def test_a_window_far_past_the_end(guest: Guest, root: Path) -> None:
    """A file that outgrows its window is mapped again."""
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, b"start")
    assert guest.read(fd, 5, at=0) == b"start"
    far = 200 << 20
    guest.write(fd, b"the end", at=far)
    assert guest.read(fd, 7, at=far) == b"the end"
    assert guest.read(fd, 5, at=0) == b"start"
    for i in range(100):
        guest.write(fd, b"E", at=far + i % 7)
    assert guest.read(fd, 7, at=far) == b"EEEEEEE"
    assert (root / "file").read_bytes()[-7:] == b"EEEEEEE"


def test_write_only_descriptors_have_windows_too(mode: Mode, guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(bytes(PAGE))
    fd = guest.open("file", rights=WRITE)
    for i in range(100):
        guest.write(fd, b"x", at=i)
    assert windows(root / "file") == (["rw-s"] if mode == "exclusive" else [])
    assert (root / "file").read_bytes() == b"x" * 100 + bytes(PAGE - 100)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_that_may_only_be_written(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(bytes(100))
    (root / "file").chmod(0o200)
    fd = guest.open("file", rights=WRITE)
    for i in range(100):
        guest.write(fd, b"x", at=i)
    (root / "file").chmod(0o600)
    assert (root / "file").read_bytes() == b"x" * 100


def test_descriptors_of_one_inode_agree(guest: Guest, root: Path) -> None:
    a = guest.open("file", oflags=CREAT)
    guest.write(a, bytes(100))
    guest.check("path_link", 3, 0, *guest.path("file"), 3, *guest.path("second"))
    b = guest.open("second")
    for i in range(60):
        guest.write(a, b"a", at=i)
        guest.write(b, b"b", at=i + 1)
    assert guest.read(a, 100, at=0) == b"a" * 60 + b"b" + bytes(39)
    guest.check("fd_filestat_set_size", b, 10)
    assert guest.read(a, 100, at=0) == b"a" * 10
    guest.write(b, b"grown", at=50)
    assert guest.read(a, 100, at=0) == b"a" * 10 + bytes(40) + b"grown"


def test_another_process_appends(guest: Guest, root: Path) -> None:
    """Seen in both modes: exclusive mode asks again where it thinks the file ends."""
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, b"ours ")
    assert guest.read(fd, 100, at=0) == b"ours "
    elsewhere("open(path, 'a').write('theirs')", root / "file")
    assert guest.read(fd, 100, at=0) == b"ours theirs"
    assert guest.seek(fd, 0, 2) == 11


def test_another_process_overwrites(guest: Guest, root: Path) -> None:
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, bytes(100))
    for i in range(50):
        guest.write(fd, b"x", at=i)
    elsewhere("f = open(path, 'r+b'); f.seek(40); f.write(b'THEIRS')", root / "file")
    assert guest.read(fd, 100, at=0) == b"x" * 40 + b"THEIRS" + b"x" * 4 + bytes(50)


def test_another_process_replaces(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"the old one")
    fd = guest.open("file")
    elsewhere("open(path + '2', 'w').write('the new'); os.replace(path + '2', path)", root / "file")
    assert guest.read(fd, 100, at=0) == b"the old one"
    assert guest.read(guest.open("file"), 100) == b"the new"
    assert guest.filestat(fd).links == 0


def test_another_process_truncates_reads(mode: Mode, guest: Guest, root: Path) -> None:
    """Pages that are gone are a SIGBUS under the window; the guest gets what the system call says."""
    content = os.urandom(8 * PAGE)
    (root / "file").write_bytes(content)
    fd = guest.open("file")
    assert guest.read(fd, 8 * PAGE, at=0) == content
    elsewhere(f"os.truncate(path, {2 * PAGE})", root / "file")
    assert guest.read(fd, 100, at=5 * PAGE) == b""
    assert guest.read(fd, 8 * PAGE, at=0) == content[: 2 * PAGE]
    assert guest.read(fd, 100, at=2 * PAGE - 50) == content[2 * PAGE - 50 : 2 * PAGE]
    elsewhere("os.truncate(path, 0)", root / "file")
    assert guest.read(fd, 100, at=0) == b""


def test_another_process_truncates_writes(mode: Mode, guest: Guest, root: Path) -> None:
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, bytes(8 * PAGE))
    for i in range(50):
        guest.write(fd, b"x", at=5 * PAGE + i)
    elsewhere(f"os.truncate(path, {PAGE})", root / "file")
    for i in range(3):
        guest.write(fd, b"y", at=5 * PAGE + i)
    assert (root / "file").read_bytes()[5 * PAGE :] == b"yyy"


def test_truncation_again_and_again(guest: Guest, root: Path) -> None:
    """The guard works more than once, and in the middle of a vector."""
    fd = guest.open("file", oflags=CREAT)
    for round_ in range(20):
        guest.check("fd_filestat_set_size", fd, 4 * PAGE)
        assert guest.read(fd, 1, at=3 * PAGE) == b"\0"
        os.truncate(root / "file", PAGE)
        assert guest.read(fd, PAGE, at=3 * PAGE) == b""
        assert guest.read(fd, 3 * PAGE, at=round_) == bytes(PAGE - round_)


def test_a_sigbus_of_somebody_else_ends_the_process(root: Path) -> None:
    """The guard takes the faults of its own copies; others go to the handler that was there before."""
    program = """
import ctypes, mmap, os, signal, sys
sys.path.insert(0, sys.argv[2])
from wasi_guest import CREAT, Guest
from collections.abc import Iterator
from pathlib import Path
root = Path(sys.argv[1])
guest = Guest("exclusive", [(root, "/", True)])
fd = guest.open("file", oflags=CREAT)
guest.write(fd, bytes(10))
assert guest.read(fd, 10, at=0) == bytes(10)
(root / "other").write_bytes(b"x" * mmap.PAGESIZE)
with open(root / "other", "r+b") as other:
    window = mmap.mmap(other.fileno(), mmap.PAGESIZE)
    os.truncate(root / "other", 0)
    window[0]
"""
    helpers = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", program, str(root), helpers], capture_output=True, text=True)
    assert done.returncode == -signal.SIGBUS, done.stderr
    faulty = program.replace("import ctypes", "import faulthandler; faulthandler.enable(); import ctypes")
    done = subprocess.run([sys.executable, "-c", faulty, str(root), helpers], capture_output=True, text=True)
    assert done.returncode == -signal.SIGBUS
    assert "Bus error" in done.stderr


def test_windows_do_not_cross_a_fork(guest: Guest, root: Path) -> None:
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, bytes(PAGE))
    guest.read(fd, 1, at=0)
    pid = os.fork()
    if pid == 0:
        os._exit(len(windows(root / "file")))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert guest.read(fd, 1, at=0) == b"\0"


def test_descriptors_do_not_cross_an_exec(guest: Guest, root: Path) -> None:
    guest.open("file", oflags=CREAT)
    listing = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False)
    assert str(root) not in listing.stdout


def test_killed_writers_lose_nothing(mode: Mode, root: Path) -> None:
    """What a guest wrote is in the page cache, through whichever way it went."""
    program = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from wasi_guest import CREAT, Guest
from collections.abc import Iterator
from pathlib import Path
guest = Guest(sys.argv[3], [(Path(sys.argv[1]), "/", True)])
fd = guest.open("file", oflags=CREAT)
guest.write(fd, bytes(5000))
for i in range(500):
    guest.write(fd, bytes([i % 251 + 1]), at=i * 7)
os.kill(os.getpid(), signal.SIGKILL)
"""
    helpers = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", program, str(root), helpers, mode], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    expected = bytearray(5000)
    for i in range(500):
        expected[i * 7] = i % 251 + 1
    assert (root / "file").read_bytes() == expected


def test_a_reopened_file_is_read_anew(guest: Guest, root: Path) -> None:
    """The window of a closed file may stay, its contents and size are asked for again."""
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, b"first contents")
    assert guest.read(fd, 100, at=0) == b"first contents"
    guest.check("fd_close", fd)
    (root / "file").write_bytes(b"second")
    assert guest.read(guest.open("file"), 100) == b"second"
    os.unlink(root / "file")
    (root / "file").write_bytes(b"the third is another file")
    assert guest.read(guest.open("file", rights=READ), 100) == b"the third is another file"


def test_an_unlinked_file_gives_its_space_back(guest: Guest, root: Path) -> None:
    fd = guest.open("file", oflags=CREAT)
    guest.write(fd, bytes(PAGE))
    guest.read(fd, 1, at=0)
    guest.check("fd_close", fd)
    assert guest.path_call("path_unlink_file", "file") == "OK"
    assert [line for line in Path("/proc/self/maps").read_text().splitlines() if str(root) in line] == []


def test_appends_keep_the_window_right(guest: Guest, root: Path) -> None:
    fd = guest.open("file", oflags=CREAT, fdflags=APPEND)
    for i in range(200):
        guest.write(fd, f"line {i}\n".encode())
        assert guest.read(fd, 100, at=0)[:7] == b"line 0\n"
    assert (root / "file").read_text() == "".join(f"line {i}\n" for i in range(200))


# The lock of exclusive mode: one host that stores through a window, or any number that read through theirs.


@pytest.fixture
def hosts(root: Path) -> Iterator[tuple[Guest, Guest]]:
    """Two guests, each of its own host, with the directory in exclusive mode."""
    both = Guest("exclusive", [(root, "/", True)]), Guest("exclusive", [(root, "/", True)])
    yield both
    for guest in both:
        guest.close()


def store_through_window(guest: Guest, fd: int, letter: bytes = b"x") -> None:
    for i in range(100):
        guest.write(fd, letter, at=i)


def test_readers_share_a_file(hosts: tuple[Guest, Guest], root: Path) -> None:
    (root / "file").write_bytes(b"content")
    for guest in hosts:
        assert guest.read(guest.open("file", rights=READ), 7) == b"content"
    assert windows(root / "file") == ["r--s"] * 2


def test_one_that_stores_is_alone(hosts: tuple[Guest, Guest], root: Path) -> None:
    """The other one works as in shared mode: every call goes to the OS, and nothing is wrong."""
    (root / "file").write_bytes(bytes(PAGE))
    first, second = hosts
    mine, theirs = first.open("file"), second.open("file")
    store_through_window(first, mine)
    assert second.read(theirs, 4, at=98) == b"xx\0\0"
    store_through_window(second, theirs, b"y")
    assert windows(root / "file") == ["rw-s"]
    assert first.read(mine, 4, at=98) == b"yy\0\0"
    second.check("fd_filestat_set_size", theirs, 50)
    assert second.read(theirs, 100, at=40) == b"y" * 10

    first.check("fd_close", mine)  # it keeps its window, but not the lock
    store_through_window(second, theirs, b"z")
    assert windows(root / "file") == ["rw-s"]
    second.check("fd_close", theirs)
    theirs = second.open("file")
    store_through_window(second, theirs, b"z")
    assert windows(root / "file") == ["rw-s"] * 2
    mine = first.open("file")
    assert first.read(mine, 100) == b"z" * 100
    store_through_window(first, mine, b"a")
    assert second.read(theirs, 100, at=0) == b"a" * 100


def test_a_reader_keeps_its_window_beside_a_writer(hosts: tuple[Guest, Guest], root: Path) -> None:
    (root / "file").write_bytes(bytes(PAGE))
    first, second = hosts
    theirs = second.open("file", rights=READ)
    assert second.read(theirs, 1, at=0) == b"\0"
    store_through_window(first, first.open("file"))
    assert windows(root / "file") == ["r--s"]
    assert second.read(theirs, 100, at=0) == b"x" * 100


def test_the_lock_moves_between_descriptors(hosts: tuple[Guest, Guest], root: Path) -> None:
    """It is held through one descriptor of the file, and closing that one is not the end of it."""
    (root / "file").write_bytes(bytes(PAGE))
    first, second = hosts
    reader, writer, third = first.open("file", rights=READ), first.open("file"), first.open("file")
    assert first.read(reader, 1, at=0) == b"\0"
    store_through_window(first, writer, b"w")
    first.check("fd_close", writer)
    assert first.read(reader, 2, at=99) == b"w\0"
    store_through_window(first, third, b"t")
    first.check("fd_close", reader)
    theirs = second.open("file")
    assert second.read(theirs, 2, at=99) == b"t\0"
    assert windows(root / "file") == ["rw-s"]
    first.check("fd_close", third)
    second.check("fd_close", theirs)
    store_through_window(second, second.open("file"))
    assert windows(root / "file") == ["rw-s"] * 2


@pytest.mark.parametrize(("kind", "expected"), [("LOCK_SH", ["r--s"]), ("LOCK_EX", [])])
def test_a_program_that_locks_the_whole_file(root: Path, kind: str, expected: list[str]) -> None:
    (root / "file").write_bytes(bytes(PAGE))
    program = f"""
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.{kind})
print("locked", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(root / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
        assert locker.stdout and locker.stdout.readline() == b"locked\n"
        guest = Guest("exclusive", [(root, "/", True)])
        fd = guest.open("file")
        assert guest.read(fd, 1, at=0) == b"\0"
        store_through_window(guest, fd)
        assert guest.read(fd, 101, at=0) == b"x" * 100 + b"\0"
        assert windows(root / "file") == expected
        guest.close()
        locker.communicate()
    assert locker.returncode == 0


def test_a_child_process_does_not_keep_the_lock(hosts: tuple[Guest, Guest], root: Path) -> None:
    (root / "file").write_bytes(bytes(PAGE))
    first, second = hosts
    fd = first.open("file")
    store_through_window(first, fd)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent has closed its end
        os._exit(0)
    os.close(reader)
    first.check("fd_close", fd)
    store_through_window(second, second.open("file"))
    assert windows(root / "file") == ["rw-s"] * 2
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
