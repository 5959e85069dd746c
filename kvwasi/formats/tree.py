"""A directory tree as entries: the key is a file's path below the root (with ``/``), the value its content.

Only regular files count. Symbolic links are not followed, so that nothing outside the root gets in.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvwasi.formats.errors import Entry


@dataclass(frozen=True)
class File:
    """A file found: its key, where it is, its size in bytes when it was found."""

    key: bytes
    path: bytes
    size_bytes: int


@dataclass(frozen=True)
class Tree:
    """The files below a root, in order of path, and how many other things were passed over."""

    files: list[File]
    skipped: int


def scan(root: str | os.PathLike[str], *, exclude: Iterable[str] = ()) -> Tree:
    """List the regular files below ``root``, without the files ``exclude`` (the database itself, say)."""
    excluded = {(status.st_dev, status.st_ino) for status in map(os.stat, filter(os.path.exists, exclude))}
    files: list[File] = []
    skipped = 0
    pending = [(b"", os.fsencode(root))]
    while pending:
        prefix, directory = pending.pop()
        with os.scandir(directory) as found:
            for item in found:
                key = prefix + item.name
                if item.is_dir(follow_symlinks=False):
                    pending.append((key + b"/", item.path))
                    continue
                status = item.stat(follow_symlinks=False)
                if (status.st_dev, status.st_ino) in excluded:
                    continue
                if item.is_file(follow_symlinks=False):
                    files.append(File(key, item.path, status.st_size))
                else:
                    skipped += 1
    files.sort(key=lambda file: file.key)
    return Tree(files, skipped)


def read(tree: Tree) -> Iterator[Entry]:
    """Yield the entries of ``tree``, reading each file as it comes."""
    for file in tree.files:
        with open(file.path, "rb") as content:
            yield file.key, content.read()
