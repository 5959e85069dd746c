"""Nothing outside the preopened directories can be read, changed, created or told to exist."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wasi_guest import APPEND, CREAT, DIRECTORY, EXCL, READ, ROOT, TRUNC, WRITE, Guest, Mode

SECRET = b"the secret"


@pytest.fixture(params=["shared", "exclusive", "walking"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Both sharing modes, and path resolution where the kernel has no openat2."""
    selected: Mode = request.param
    return selected


@pytest.fixture
def outside(tmp_path: Path, root: Path) -> Iterator[Path]:
    """A directory beside the root, which must stay as it is."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "secret").write_bytes(SECRET)
    (directory / "dir").mkdir()
    (root / "dir").mkdir()
    (root / "file").write_bytes(b"inside")
    before = os.stat(directory / "secret")
    yield directory
    assert sorted(os.listdir(directory)) == ["dir", "secret"]
    assert os.listdir(directory / "dir") == []
    assert (directory / "secret").read_bytes() == SECRET
    after = os.stat(directory / "secret")
    assert (after.st_ino, after.st_nlink, after.st_mtime_ns) == (before.st_ino, 1, before.st_mtime_ns)


def attempts(guest: Guest, path: str) -> dict[str, str]:
    """Every call that takes a path, tried on this one: name -> errno."""
    p = guest.path(path)
    new = guest.path("made-by-attempt")
    found = {
        "open": guest.try_open(path, rights=READ)[0],
        "open-nofollow": guest.try_open(path, rights=READ, follow=0)[0],
        "open-directory": guest.try_open(path, rights=READ, oflags=DIRECTORY, follow=0)[0],
        "open-write": guest.try_open(path, rights=WRITE)[0],
        "open-append": guest.try_open(path, rights=WRITE, fdflags=APPEND)[0],
        "create": guest.try_open(path, oflags=CREAT)[0],
        "truncate": guest.try_open(path, oflags=TRUNC)[0],
        "stat": guest.raw("path_filestat_get", ROOT, 1, *p, guest.reserve(64)),
        "stat-nofollow": guest.raw("path_filestat_get", ROOT, 0, *p, guest.reserve(64)),
        "times": guest.raw("path_filestat_set_times", ROOT, 1, *p, 1, 1, 5),
        "times-nofollow": guest.raw("path_filestat_set_times", ROOT, 0, *p, 1, 1, 5),
        "mkdir": guest.raw("path_create_directory", ROOT, *p),
        "readlink": guest.raw("path_readlink", ROOT, *p, guest.reserve(100), 100, guest.reserve(4)),
        "link-from": guest.raw("path_link", ROOT, 0, *p, ROOT, *new),
        "link-to": guest.raw("path_link", ROOT, 0, *guest.path("file"), ROOT, *p),
        "symlink": guest.raw("path_symlink", *guest.path("x"), ROOT, *p),
        "rename-from": guest.raw("path_rename", ROOT, *p, ROOT, *new),
        "rename-to": guest.raw("path_rename", ROOT, *guest.path("file"), ROOT, *p),
        "rmdir": guest.raw("path_remove_directory", ROOT, *p),
        "unlink": guest.raw("path_unlink_file", ROOT, *p),
    }
    guest.next = 16
    return found


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret",
        "../outside/missing",
        "../missing",
        "dir/../../outside/secret",
        "./../outside/dir/",
        "dir/../dir/../../outside/secret",
        "../root/file",
        "../../../../../../../../etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "/",
        "/proc/self/root/etc/passwd",
        "dir//..//..//outside/secret",
    ],
)
def test_paths_that_lead_out(guest: Guest, outside: Path, path: str) -> None:
    assert set(attempts(guest, path).values()) == {"PERM"}  # whether or not anything is there


@pytest.mark.parametrize("path", ["..", "../", "../.", "dir/../..", "dir/../../"])
def test_the_parent_itself(guest: Guest, outside: Path, path: str) -> None:
    """Calls on names are refused by the kernel with the error that they have for every '..'."""
    results = attempts(guest, path)
    assert "OK" not in results.values()
    for name in ("open", "stat", "stat-nofollow", "times", "create", "open-directory"):
        assert results[name] == "PERM", name


@pytest.mark.parametrize(
    "target",
    ["../outside", "../outside/", "../outside/dir", "/etc", "../outside/missing", "..", "dir/../../outside"],
)
@pytest.mark.parametrize("suffix", ["", "/", "/.", "/secret", "/../secret", "/dir/../secret"])
def test_links_that_lead_out(guest: Guest, root: Path, outside: Path, target: str, suffix: str) -> None:
    if target == "/etc":
        target = str(outside)
    os.symlink(target, root / "link")
    results = attempts(guest, "link" + suffix)
    if suffix == "":  # the link itself is inside, and the guest's
        assert results["open"] == results["stat"] == results["create"] == "PERM"
        assert results["stat-nofollow"] == results["readlink"] == "OK"
        return
    if suffix == "/":  # calls on names follow no link, whatever its slash
        assert results["rmdir"] == results["unlink"] == results["rename-from"] == "NOTDIR"
    for name in (
        "open",
        "open-nofollow",
        "open-directory",
        "stat",
        "stat-nofollow",
        "times",
        "times-nofollow",
    ):
        assert results[name] == "PERM", name
    assert not {"OK"} & set(results.values())


def test_a_link_to_a_secret_file(guest: Guest, root: Path, outside: Path) -> None:
    os.symlink("../outside/secret", root / "link")
    os.symlink("link", root / "chain")
    for name in ("link", "chain", "dir/../chain"):
        for options in (
            {"rights": READ},
            {"rights": WRITE},
            {"oflags": CREAT},
            {"oflags": TRUNC},
            {"oflags": CREAT | TRUNC},
            {"rights": WRITE, "fdflags": APPEND},
        ):
            assert guest.try_open(name, **options)[0] == "PERM"
        assert guest.try_open(name, oflags=CREAT | EXCL)[0] == "EXIST"
        assert guest.raw("path_filestat_set_times", ROOT, 1, *guest.path(name), 1, 1, 5) == "PERM"


def test_magic_links_of_proc(mode: Mode, outside: Path) -> None:
    """A preopened /proc gives nothing of this process away through its links."""
    guest = Guest(mode, [(Path("/proc/self"), "/", False)])
    for path in (
        "cwd",
        "root",
        "cwd/",
        "root/etc/passwd",
        "exe",
        "fd/0",
        f"fd/{os.open(outside, os.O_RDONLY)}",
    ):
        assert guest.try_open(path, rights=READ)[0] in ("PERM", "LOOP", "NOENT"), path
        assert guest.path_call("path_unlink_file", f"{path}/x") != "OK"
    guest.close()


def test_a_directory_descriptor_is_a_root_of_its_own(guest: Guest, root: Path, outside: Path) -> None:
    fd = guest.open("dir", oflags=DIRECTORY, rights=READ)
    assert guest.try_open("../file", fd=fd)[0] == "PERM"
    assert guest.try_open("..", fd=fd, oflags=DIRECTORY, rights=READ)[0] == "PERM"
    os.symlink("../file", root / "dir" / "up")
    assert guest.try_open("up", fd=fd)[0] == "PERM"
    assert guest.try_open("dir/up")[0] == "OK"


def test_a_directory_that_is_moved_out_of_itself(guest: Guest, root: Path, outside: Path) -> None:
    """'..' never climbs past the descriptor, though what it denotes was renamed meanwhile."""
    (root / "dir" / "deep").mkdir()
    fd = guest.open("dir/deep", oflags=DIRECTORY, rights=READ)
    os.rename(root / "dir" / "deep", root / "deep")
    assert guest.try_open("..", fd=fd, oflags=DIRECTORY, rights=READ)[0] == "PERM"


def test_a_race_of_renames(mode: Mode, root: Path, outside: Path) -> None:
    """While a directory is swapped with a link to the outside, no open ever reaches the secret."""
    (root / "dir" / "secret").write_bytes(b"inside")
    os.symlink("../outside", root / "evil")
    program = """
import os, sys
os.chdir(sys.argv[1])
while os.getppid() == int(sys.argv[2]):
    os.rename("dir", "spare")
    os.rename("evil", "dir")
    os.rename("dir", "evil")
    os.rename("spare", "dir")
"""
    guest = Guest(mode, [(root, "/", True)])
    swapper = subprocess.Popen([sys.executable, "-S", "-c", program, root, str(os.getpid())])
    try:
        outcomes = set()
        for _ in range(1500):
            error, fd = guest.try_open("dir/secret", rights=READ)
            outcomes.add(error)
            if error == "OK":
                assert guest.read(fd, 20) == b"inside"
                guest.raw("fd_close", fd)
    finally:
        swapper.kill()
        swapper.wait()
        guest.close()
    # NOTDIR: it was a link when it was entered, and a directory again when the link was read
    assert outcomes <= {"OK", "NOENT", "PERM", "AGAIN", "NOTDIR"}


@pytest.fixture
def read_only(mode: Mode, root: Path, outside: Path, tmp_path: Path) -> Iterator[Guest]:
    """Descriptor 3 is the root, read-only; 4 a writable directory."""
    (tmp_path / "writable").mkdir()
    (tmp_path / "writable" / "mine").write_bytes(b"mine")
    os.symlink("file", root / "link")
    guest = Guest(mode, [(root, "/", False), (tmp_path / "writable", "/w", True)])
    before = {path: os.lstat(path).st_mtime_ns for path in (root, root / "file", root / "dir", root / "link")}
    yield guest
    assert {path: os.lstat(path).st_mtime_ns for path in before} == before
    assert (root / "file").read_bytes() == b"inside"
    assert sorted(os.listdir(root)) == ["dir", "file", "link"]
    guest.close()


def test_read_only_is_read_only_by_every_route(read_only: Guest) -> None:
    guest = read_only
    results = attempts(guest, "file")
    assert results.pop("open") == results.pop("open-nofollow") == "OK"
    assert results.pop("stat") == results.pop("stat-nofollow") == "OK"
    assert results.pop("open-directory") == "NOTDIR"
    assert results.pop("readlink") == "INVAL"
    assert set(results.values()) == {"ROFS"}
    assert guest.try_open("file", rights=READ, oflags=CREAT)[0] == "OK"
    assert guest.try_open("file", rights=READ, oflags=CREAT | EXCL)[0] == "EXIST"
    assert guest.try_open("new", rights=READ, oflags=CREAT)[0] == "ROFS"
    assert guest.try_open("file", rights=READ, oflags=TRUNC)[0] == "ROFS"
    assert guest.try_open("file", rights=0, oflags=TRUNC)[0] == "ROFS"
    assert guest.try_open("missing", rights=WRITE)[0] == "NOENT"
    assert guest.try_open("dir", rights=WRITE)[0] == "ISDIR"


def test_a_descriptor_of_a_read_only_file_changes_nothing(read_only: Guest) -> None:
    guest = read_only
    fd = guest.open("file", rights=READ)
    vector = guest.iovecs((guest.put(b"xx"), 2))
    guest.check("fd_write", fd, vector, 1, guest.reserve(4), errno="BADF")
    guest.check("fd_pwrite", fd, vector, 1, 0, guest.reserve(4), errno="BADF")
    guest.check("fd_allocate", fd, 0, 100, errno="BADF")
    guest.check("fd_filestat_set_size", fd, 0, errno="INVAL")
    guest.check("fd_filestat_set_times", fd, 1, 1, 5, errno="ROFS")
    guest.check("fd_filestat_set_times", ROOT, 1, 1, 5, errno="ROFS")
    below = guest.open("dir", oflags=DIRECTORY, rights=READ)
    assert guest.path_call("path_create_directory", "new", fd=below) == "ROFS"
    assert guest.try_open("new", oflags=CREAT, fd=below)[0] == "ROFS"


def test_nothing_passes_between_preopens_of_different_rights(read_only: Guest) -> None:
    guest = read_only
    mine, file, new = guest.path("mine"), guest.path("file"), guest.path("new")
    guest.check("path_link", 3, 0, *file, 4, *new, errno="XDEV")
    guest.check("path_link", 4, 0, *mine, 3, *new, errno="ROFS")
    guest.check("path_rename", 3, *file, 4, *new, errno="ROFS")
    guest.check("path_rename", 4, *mine, 3, *new, errno="ROFS")
    # a read-only descriptor stays so under another number
    fd = guest.open("dir", oflags=DIRECTORY, rights=READ)
    guest.check("fd_renumber", fd, 4)
    assert guest.try_open("new", fd=4, oflags=CREAT)[0] == "ROFS"


def test_host_memory_is_bounded(guest: Guest, root: Path) -> None:
    """Lengths and counts of four gigabytes are refused before anything is allocated for them."""
    huge = 0xFFFFFFFF
    assert guest.raw("path_open", ROOT, 0, 16, huge, 0, READ, READ, 0, 16) == "FAULT"
    assert guest.raw("path_open", ROOT, 0, 16, 100_000, 0, READ, READ, 0, 16) == "NAMETOOLONG"
    assert guest.raw("fd_readdir", ROOT, 16, huge, 0, 16) == "FAULT"
    assert guest.raw("fd_write", 3, 16, huge, 16) == "BADF"
    fd = guest.open("file", oflags=CREAT)
    assert guest.raw("fd_write", fd, 16, huge, 16) in ("FAULT", "INVAL")
    assert guest.raw("poll_oneoff", 16, 16, huge, 16) == "FAULT"
    assert guest.raw("sock_recv", fd, 16, huge, 0, 16, 16) == "NOTSOCK"


def test_descriptors_of_this_process_are_not_the_guests(guest: Guest, outside: Path) -> None:
    ours = os.open(outside / "secret", os.O_RDWR)
    for fd in range(200):
        if fd != ROOT:
            assert guest.raw("fd_filestat_get", fd, guest.reserve(64)) == "BADF"
        guest.next = 16
    os.close(ours)
