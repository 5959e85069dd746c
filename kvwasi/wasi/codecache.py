"""A per-user cache of compiled modules.

What is in it is native code that will run in this process: the directory must belong to the user and nobody
else may write to it, else it is not used. The cache is only a shortcut: whatever goes wrong with it,
nothing is raised.
"""

from __future__ import annotations

import contextlib
import os
import stat

__all__ = ["directory", "load", "read_file", "store", "wasmtime_version"]


def wasmtime_version() -> str:
    """The version of the installed wasmtime package, from the name of its metadata directory."""
    import importlib.util

    spec = importlib.util.find_spec("wasmtime")
    for place in (spec.submodule_search_locations if spec is not None else None) or ():
        with contextlib.suppress(OSError):
            for name in os.listdir(os.path.dirname(place)):
                if name.startswith("wasmtime-") and name.endswith(".dist-info"):
                    return name[len("wasmtime-") : -len(".dist-info")]
    return "unknown"


def read_file(path: str) -> bytes | None:
    """The bytes of a file; None when it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def directory() -> str | None:
    """The cache directory, made if need be. None: there is none to trust.

    ``$XDG_CACHE_HOME/kvwasi`` or ``~/.cache/kvwasi`` (XDG Base Directory Specification).
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base):
        return None
    path = os.path.join(base, "kvwasi")
    try:
        os.makedirs(base, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        status = os.lstat(path)
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077 == 0
    return path if private and status.st_uid == os.geteuid() else None


def load(key: str) -> bytes | None:
    """The entry ``key``; None when there is none, or it is not the user's own regular file."""
    path = directory()
    if path is None:
        return None
    try:
        fd = os.open(os.path.join(path, key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        try:
            return file.read() if own else None
        except OSError:
            return None


def store(key: str, data: bytes) -> None:
    """Keep ``data`` as the entry ``key``; readers see the old entry or the whole new one."""
    path = directory()
    if path is None:
        return
    temporary = os.path.join(path, f".{key}.{os.getpid()}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(temporary, os.path.join(path, key))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
