"""The calls on names: directories, links, renames, removal, stat by path."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from wasi_guest import CREAT, DIRECTORY, PAGE, READ, ROOT, Guest, Mode

REGULAR, FOLDER, LINK = 4, 3, 7


@pytest.fixture(params=["shared", "exclusive", "walking"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Both sharing modes, and path resolution where the kernel has no openat2."""
    selected: Mode = request.param
    return selected


@pytest.fixture
def tree(guest: Guest, root: Path) -> Iterator[Guest]:
    """A tree with one of everything."""
    (root / "dir" / "sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "file").write_bytes(b"file")
    (root / "dir" / "inner").write_bytes(b"inner file")
    for name, target in {
        "link": "file",
        "link-dir": "dir",
        "link-inner": "dir/inner",
        "dangling": "nowhere",
        "loop": "loop",
        "dir/up": "../file",
        "dir/up-dir": "..",
    }.items():
        os.symlink(target, root / name)
    yield guest


# what a path names: (path, follow) -> the file in the tree, or an errno
LOOKUPS = [
    ("file", 1, "file"),
    ("./file", 1, "file"),
    ("dir/../file", 1, "file"),
    ("dir//inner", 1, "dir/inner"),
    ("dir/./inner", 0, "dir/inner"),
    ("dir/sub/../../file", 1, "file"),
    ("link", 1, "file"),
    ("link", 0, "link"),
    ("./link", 0, "link"),
    ("link-dir", 0, "link-dir"),
    ("link-dir/", 0, "dir"),
    ("link-dir/inner", 0, "dir/inner"),
    ("link-inner", 1, "dir/inner"),
    ("dir/up", 1, "file"),
    ("dir/up-dir/dir/up-dir/link-dir/up", 1, "file"),
    ("link-dir/up-dir/file", 0, "file"),
    (".", 1, "."),
    ("dir/..", 1, "."),
    ("dir/", 1, "dir"),
    ("dir///", 1, "dir"),
    ("dangling", 0, "dangling"),
    ("loop", 0, "loop"),
    ("missing", 1, "NOENT"),
    ("missing/file", 1, "NOENT"),
    ("dangling", 1, "NOENT"),
    ("dangling/x", 1, "NOENT"),
    ("loop", 1, "LOOP"),
    ("loop/x", 0, "LOOP"),
    ("loop/", 0, "LOOP"),
    ("file/", 1, "NOTDIR"),
    ("file/", 0, "NOTDIR"),
    ("file/.", 1, "NOTDIR"),
    ("file/x", 1, "NOTDIR"),
    ("link/", 1, "NOTDIR"),
    ("link/x", 0, "NOTDIR"),
    ("", 1, "NOENT"),
    ("a" * 256, 1, "NAMETOOLONG"),
    ("a/" * 3000, 1, "NAMETOOLONG"),
    ("..", 1, "PERM"),
    ("../root/file", 1, "PERM"),
    ("dir/../../root/file", 1, "PERM"),
    ("/file", 1, "PERM"),
    ("dir/inner\0", 1, "INVAL"),
    ("\0", 1, "INVAL"),
]


@pytest.mark.parametrize(("path", "follow", "found"), LOOKUPS)
def test_lookup(tree: Guest, root: Path, path: str, follow: int, found: str) -> None:
    result = tree.reserve(64)
    args = (ROOT, follow, *tree.path(path), result)
    if found.isupper():
        tree.check("path_filestat_get", *args, errno=found)
        assert tree.try_open(path, rights=READ, follow=follow)[0] == found
        return
    st = os.lstat(root / found)
    stat = tree.path_filestat(path, follow=follow)
    assert (stat.device, stat.inode, stat.size, stat.mtim) == (
        st.st_dev,
        st.st_ino,
        st.st_size,
        st.st_mtime_ns,
    )
    assert stat.kind == {0o100000: REGULAR, 0o040000: FOLDER, 0o120000: LINK}[st.st_mode & 0o170000]
    error, fd = tree.try_open(path, rights=READ, follow=follow)
    if stat.kind == LINK:
        assert error == "LOOP"
    else:
        assert error == "OK"
        assert tree.filestat(fd).inode == st.st_ino


@pytest.mark.parametrize(
    "path", [b"\xff", b"a\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]
)
def test_paths_are_utf8(tree: Guest, path: bytes) -> None:
    assert tree.path_call("path_create_directory", path) == "ILSEQ"


@pytest.mark.parametrize("path", ["é", "日本", "😀", "a b", "-"])
def test_names_outside_ascii(guest: Guest, root: Path, path: str) -> None:
    guest.write(guest.open(path, oflags=CREAT), b"x")
    assert os.listdir(root) == [path]


@pytest.mark.parametrize("bad", [(2 * PAGE, 1), (2 * PAGE - 1, 2), (0xFFFFFFFF, 2), (0, 0xFFFFFFFF)])
def test_paths_outside_memory(tree: Guest, bad: tuple[int, int]) -> None:
    good = tree.path("new")
    tree.check("path_create_directory", ROOT, *bad, errno="FAULT")
    tree.check("path_open", ROOT, 0, *bad, CREAT, READ, READ, 0, tree.reserve(4), errno="FAULT")
    tree.check("path_open", ROOT, 0, *good, CREAT, READ, READ, 0, 2 * PAGE - 3, errno="FAULT")
    tree.check("path_filestat_get", ROOT, 0, *bad, tree.reserve(64), errno="FAULT")
    tree.check("path_filestat_get", ROOT, 0, *tree.path("file"), 2 * PAGE - 63, errno="FAULT")
    tree.check("path_link", ROOT, 0, *bad, ROOT, *good, errno="FAULT")
    tree.check("path_link", ROOT, 0, *tree.path("file"), ROOT, *bad, errno="FAULT")
    tree.check("path_rename", ROOT, *bad, ROOT, *good, errno="FAULT")
    tree.check("path_rename", ROOT, *tree.path("file"), ROOT, *bad, errno="FAULT")
    tree.check("path_symlink", *bad, ROOT, *good, errno="FAULT")
    tree.check("path_symlink", *good, ROOT, *bad, errno="FAULT")
    tree.check("path_unlink_file", ROOT, *bad, errno="FAULT")
    tree.check("path_remove_directory", ROOT, *bad, errno="FAULT")
    tree.check("path_readlink", ROOT, *bad, tree.reserve(8), 8, tree.reserve(4), errno="FAULT")
    tree.check("path_readlink", ROOT, *tree.path("link"), *bad, tree.reserve(4), errno="FAULT")
    tree.check("path_readlink", ROOT, *tree.path("link"), tree.reserve(8), 8, 2 * PAGE - 3, errno="FAULT")
    assert tree.path_filestat("file").links == 1


# call, path -> errno; what the file system must be afterwards is asserted apart
NAMES = [
    ("path_create_directory", "new", "OK"),
    ("path_create_directory", "new/", "OK"),
    ("path_create_directory", "dir/sub/new", "OK"),
    ("path_create_directory", "link-dir/new", "OK"),
    ("path_create_directory", "file", "EXIST"),
    ("path_create_directory", "dir", "EXIST"),
    ("path_create_directory", "link", "EXIST"),
    ("path_create_directory", "dangling", "EXIST"),
    ("path_create_directory", ".", "EXIST"),
    ("path_create_directory", "missing/new", "NOENT"),
    ("path_create_directory", "file/new", "NOTDIR"),
    ("path_remove_directory", "empty", "OK"),
    ("path_remove_directory", "empty/", "OK"),
    ("path_remove_directory", "dir/sub", "OK"),
    ("path_remove_directory", "dir", "NOTEMPTY"),
    ("path_remove_directory", "file", "NOTDIR"),
    ("path_remove_directory", "link-dir", "NOTDIR"),
    ("path_remove_directory", "link-dir/", "NOTDIR"),
    ("path_remove_directory", "missing", "NOENT"),
    ("path_remove_directory", ".", "INVAL"),
    ("path_remove_directory", "dir/.", "INVAL"),
    ("path_remove_directory", "dir/..", "NOTEMPTY"),
    ("path_unlink_file", "file", "OK"),
    ("path_unlink_file", "link", "OK"),
    ("path_unlink_file", "link-dir", "OK"),
    ("path_unlink_file", "dangling", "OK"),
    ("path_unlink_file", "loop", "OK"),
    ("path_unlink_file", "dir/inner", "OK"),
    ("path_unlink_file", "dir", "ISDIR"),
    ("path_unlink_file", "dir/", "ISDIR"),
    ("path_unlink_file", "file/", "NOTDIR"),
    ("path_unlink_file", "link/", "NOTDIR"),
    ("path_unlink_file", "link-dir/", "NOTDIR"),
    ("path_unlink_file", ".", "ISDIR"),
    ("path_unlink_file", "missing", "NOENT"),
]


def snapshot(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(directory) / name
            key = str(path.relative_to(root))
            found[key] = os.readlink(path) if path.is_symlink() else path.is_dir() or path.read_bytes()
    return found


@pytest.mark.parametrize(("name", "path", "error"), NAMES)
def test_names(tree: Guest, root: Path, name: str, path: str, error: str) -> None:
    before = snapshot(root)
    tree.check(name, ROOT, *tree.path(path), errno=error)
    changed = dict(before)
    if error == "OK":
        real = path.rstrip("/").replace("link-dir/", "dir/")
        if name == "path_create_directory":
            changed[real] = True
        else:
            del changed[real]
    assert snapshot(root) == changed


# old, new -> errno. POSIX and Linux agree on each
RENAMES = [
    ("file", "new", "OK"),
    ("file", "dir/new", "OK"),
    ("file", "dir/inner", "OK"),
    ("file", "file", "OK"),
    ("file", "dangling", "OK"),
    ("link", "new", "OK"),
    ("dangling", "new", "OK"),
    ("dir", "new", "OK"),
    ("dir/", "new/", "OK"),
    ("dir", "empty", "OK"),
    ("dir", "empty/", "OK"),
    ("missing", "new", "NOENT"),
    ("file", "missing/new", "NOENT"),
    ("file", "empty", "ISDIR"),
    ("empty", "file", "NOTDIR"),
    ("empty", "dir", "NOTEMPTY"),
    ("dir", "dir/sub/new", "INVAL"),
    ("dir/sub", "dir", "NOTEMPTY"),
    ("file/", "new", "NOTDIR"),
    ("file", "new/", "NOTDIR"),
    ("link-dir/", "new", "NOTDIR"),
    (".", "new", "BUSY"),
    ("file", ".", "BUSY"),
    ("dir/..", "new", "BUSY"),
    ("file/x", "new", "NOTDIR"),
]


@pytest.mark.parametrize(("old", "new", "error"), RENAMES)
def test_rename(tree: Guest, root: Path, old: str, new: str, error: str) -> None:
    before = snapshot(root)
    tree.check("path_rename", ROOT, *tree.path(old), ROOT, *tree.path(new), errno=error)
    if error != "OK" or old == new:
        assert snapshot(root) == before
        return
    old, new = old.rstrip("/"), new.rstrip("/")
    expected = {k: v for k, v in before.items() if k != new and k != old and not k.startswith(old + "/")}
    for key, value in before.items():
        if key == old or key.startswith(old + "/"):
            expected[new + key[len(old) :]] = value
    assert snapshot(root) == expected


def test_rename_between_directory_descriptors(tree: Guest, root: Path) -> None:
    directory = tree.open("dir", oflags=DIRECTORY, rights=READ)
    tree.check("path_rename", directory, *tree.path("inner"), ROOT, *tree.path("outer"))
    assert (root / "outer").read_bytes() == b"inner file"
    tree.check("path_rename", 99, *tree.path("a"), ROOT, *tree.path("b"), errno="BADF")
    tree.check("path_rename", ROOT, *tree.path("file"), 99, *tree.path("b"), errno="BADF")
    tree.check("path_rename", directory, *tree.path("../file"), ROOT, *tree.path("b"), errno="PERM")
    tree.check("path_rename", ROOT, *tree.path("file"), directory, *tree.path("../b"), errno="PERM")


LINKS = [
    ("file", "new", "OK"),
    ("file", "dir/new", "OK"),
    ("dir/inner", "new", "OK"),
    ("link", "new", "OK"),
    ("dangling", "new", "OK"),
    ("file", "file", "EXIST"),
    ("file", "empty", "EXIST"),
    ("file", "dangling", "EXIST"),
    ("file", "new/", "NOENT"),
    ("file", ".", "EXIST"),
    ("dir", "new", "PERM"),
    ("dir/", "new", "PERM"),
    (".", "new", "PERM"),
    ("dir/..", "new", "PERM"),
    ("link-dir/", "new", "PERM"),
    ("file/", "new", "NOTDIR"),
    ("link/", "new", "NOTDIR"),
    ("missing", "new", "NOENT"),
    ("file", "missing/new", "NOENT"),
]


@pytest.mark.parametrize(("old", "new", "error"), LINKS)
def test_link(tree: Guest, root: Path, old: str, new: str, error: str) -> None:
    before = snapshot(root)
    tree.check("path_link", ROOT, 0, *tree.path(old), ROOT, *tree.path(new), errno=error)
    if error == "OK":
        assert os.lstat(root / old).st_ino == os.lstat(root / new).st_ino
        before[new] = before[old]
    assert snapshot(root) == before


def test_a_link_is_not_followed(tree: Guest) -> None:
    tree.check("path_link", ROOT, 1, *tree.path("link"), ROOT, *tree.path("new"), errno="INVAL")


SYMLINKS = [
    ("target", "new", "OK"),
    ("../outside", "new", "OK"),  # the link may say so; it is never followed there
    ("trailing/", "new", "OK"),
    ("t", "dir/new", "OK"),
    ("t", "file", "EXIST"),
    ("t", "dangling", "EXIST"),
    ("t", "dir/", "EXIST"),
    ("t", "new/", "NOENT"),
    ("t", "missing/new", "NOENT"),
    ("t", "file/new", "NOTDIR"),
    ("", "new", "NOENT"),
    ("/absolute", "new", "PERM"),
]


@pytest.mark.parametrize(("target", "new", "error"), SYMLINKS)
def test_symlink(tree: Guest, root: Path, target: str, new: str, error: str) -> None:
    before = snapshot(root)
    tree.check("path_symlink", *tree.path(target), ROOT, *tree.path(new), errno=error)
    if error == "OK":
        before[new] = target
    assert snapshot(root) == before


@pytest.mark.parametrize("capacity", [0, 1, 3, 4, 5, 100])
def test_readlink(tree: Guest, capacity: int) -> None:
    buffer, result = tree.reserve(100), tree.reserve(4)
    expected = b"file"[:capacity]
    writes = {buffer: expected, result: struct.pack("<I", len(expected))}
    tree.check("path_readlink", ROOT, *tree.path("link"), buffer, capacity, result, writes=writes)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("file", "INVAL"),
        ("dir", "INVAL"),
        ("missing", "NOENT"),
        ("link/", "NOTDIR"),
        ("link-dir/", "INVAL"),
        ("..", "PERM"),
        (".", "INVAL"),
        ("file/x", "NOTDIR"),
        ("dangling/", "NOENT"),
    ],
)
def test_readlink_errors(tree: Guest, path: str, error: str) -> None:
    buffer, result = tree.reserve(100), tree.reserve(4)
    tree.check("path_readlink", ROOT, *tree.path(path), buffer, 100, result, errno=error)


@pytest.mark.parametrize(
    ("path", "follow", "changed"),
    [
        ("file", 1, "file"),
        ("link", 1, "file"),
        ("link", 0, "link"),
        ("dir/up", 1, "file"),
        ("dir/", 0, "dir"),
        ("link-dir/", 0, "dir"),
        ("dir/inner", 0, "dir/inner"),
        ("dangling", 0, "dangling"),
        (".", 1, "."),
    ],
)
def test_set_times_by_path(tree: Guest, root: Path, path: str, follow: int, changed: str) -> None:
    tree.check("path_filestat_set_times", ROOT, follow, *tree.path(path), 1_000, 2_000, 1 | 4)
    st = os.lstat(root / changed)
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_000, 2_000)


@pytest.mark.parametrize(
    ("path", "follow", "error"), [("missing", 0, "NOENT"), ("dangling", 1, "NOENT"), ("file/", 0, "NOTDIR")]
)
def test_set_times_errors(tree: Guest, path: str, follow: int, error: str) -> None:
    tree.check("path_filestat_set_times", ROOT, follow, *tree.path(path), 1, 1, 5, errno=error)


def test_unknown_lookup_flags(tree: Guest) -> None:
    path = tree.path("file")
    tree.check("path_filestat_get", ROOT, 2, *path, tree.reserve(64), errno="INVAL")
    tree.check("path_filestat_set_times", ROOT, 2, *path, 1, 1, 5, errno="INVAL")
    tree.check("path_open", ROOT, 2, *path, 0, READ, 0, 0, tree.reserve(4), errno="INVAL")


@pytest.mark.parametrize("fd", ["closed", "file"])
def test_paths_start_at_directories(tree: Guest, fd: str) -> None:
    number, error = (99, "BADF") if fd == "closed" else (tree.open("file"), "NOTDIR")
    path = tree.path("x")
    for name in ("path_create_directory", "path_remove_directory", "path_unlink_file"):
        tree.check(name, number, *path, errno=error)
    tree.check("path_open", number, 0, *path, 0, READ, 0, 0, tree.reserve(4), errno=error)
    tree.check("path_filestat_get", number, 0, *path, tree.reserve(64), errno=error)
    tree.check("path_readlink", number, *path, tree.reserve(8), 8, tree.reserve(4), errno=error)
    tree.check("path_symlink", *path, number, *path, errno=error)
    tree.check("path_link", number, 0, *path, ROOT, *path, errno=error)
    tree.check("path_rename", number, *path, ROOT, *path, errno=error)


def test_deep_paths(guest: Guest, root: Path) -> None:
    """As deep as a path can be: 2,047 directories are more than the walk holds open, and say so."""
    depth = 200
    path = "/".join("d" * depth)
    (root / path).mkdir(parents=True)
    guest.write(guest.open(f"{path}/file", oflags=CREAT), b"deep")
    assert (root / path / "file").read_bytes() == b"deep"
    up = "/".join([".."] * depth)
    assert guest.path_filestat(f"{path}/{up}/d").kind == FOLDER
    assert guest.path_call("path_unlink_file", f"{path}/{up}/../file") == "PERM"


def test_chains_of_links(guest: Guest, root: Path) -> None:
    (root / "l0").write_bytes(b"end")
    for i in range(1, 45):
        os.symlink(f"l{i - 1}", root / f"l{i}")
    assert guest.path_filestat("l40").size == 3
    assert guest.try_open("l41", rights=READ)[0] == "LOOP"


def test_errors_of_the_system_come_through(guest: Guest, root: Path) -> None:
    (root / "file").write_bytes(b"")
    with pytest.raises(OSError) as full:
        os.open(root / ("x" * 256), os.O_RDONLY)
    assert full.value.errno == errno.ENAMETOOLONG
    assert guest.path_call("path_unlink_file", "x" * 256) == "NAMETOOLONG"
    assert guest.path_call("path_unlink_file", "x" * 255) == "NOENT"
