"""Opening what a power cut has left, and comparing it with what was promised."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from kvwasi.crashcheck.disk import State
from kvwasi.crashcheck.engines import Database, Engine, Mode
from kvwasi.crashcheck.history import Change, History, apply
from kvwasi.crashcheck.trace import Window

__all__ = ["Finding", "examine", "write_state"]

COMMITS_AFTER = 12
SEARCHED_KEYS = 100


@dataclass(frozen=True)
class Finding:
    """What is wrong with a state: a kind (``open``, ``contents``, ...) and a sentence."""

    kind: str
    what: str


class _WrongError(Exception):
    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


def write_state(state: State, directory: str) -> None:
    """Make ``directory`` hold the state and nothing else."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name not in state.files:
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    for name, image in state.files.items():
        image.write_to(os.path.join(directory, name))


def examine(
    engine: Engine,
    mode: Mode,
    directory: str,
    history: History,
    window: Window,
    opened: Callable[[list[int]], None] = lambda found: None,
    *,
    third: bool = True,
) -> Finding | None:
    """Apply the oracles, in order, to the database in ``directory``; None: all is well.

    ``opened`` is told, once the first opening has answered, after which commit of each lane the contents are.
    ``third``: whether it is opened a third time, to see that what was committed in the second is there.
    """
    try:
        _copies(engine, directory, history, window)
        contents = _first_opening(engine, mode, directory, history, window, opened)
        _second_opening(engine, mode, directory, contents)
        if third:
            _third_opening(engine, mode, directory, contents)
    except _WrongError as wrong:
        return Finding(wrong.kind, str(wrong))
    return None


def _copies(engine: Engine, directory: str, history: History, window: Window) -> None:
    """Copies of the database are whole or not there; there, if a later commit is durable."""
    there = set()
    for number, contents in engine.copies(directory):
        there.add(number)
        if isinstance(contents, Exception):
            raise _WrongError("copy", f"a copy does not open: {type(contents).__name__}: {contents}")
        if history.find(contents, ((number, number),)) is None:
            raise _WrongError("copy", f"the copy made after commit {number} holds something else")
    missing = [number for number in history.copies if number < window[0][0] and number not in there]
    if missing:
        raise _WrongError("copy", f"copies made after commits {missing} are gone")


def _opened(engine: Engine, mode: Mode, directory: str) -> Database:
    try:
        return engine.open(directory, mode)
    except Exception as error:
        raise _WrongError("open", f"does not open: {type(error).__name__}: {error}") from error


def _first_opening(
    engine: Engine,
    mode: Mode,
    directory: str,
    history: History,
    window: Window,
    opened: Callable[[list[int]], None],
) -> dict[bytes, bytes]:
    database = _opened(engine, mode, directory)
    try:
        contents = _read(database)
        found = history.find(contents, window)
        if found is None:
            raise _WrongError("contents", history.wrong(contents, window))
        opened(found)
        problem = database.check()
        if problem:
            raise _WrongError("check", f"the check after opening finds: {problem}")
    except _WrongError:
        raise
    except Exception as error:
        raise _WrongError("read", f"{type(error).__name__}: {error}") from error
    finally:
        database.close()
    return contents


def _read(database: Database) -> dict[bytes, bytes]:
    """Everything, in the three ways that there are."""
    entries = database.scan()
    keys = [key for key, _ in entries]
    if any(key >= other for key, other in pairwise(keys)):
        raise _WrongError("agree", "the keys are not in order")
    if database.count() != len(entries):
        raise _WrongError("agree", f"{database.count()} keys counted, {len(entries)} scanned")
    some = entries[:: max(1, len(entries) // SEARCHED_KEYS)]
    if database.gets(key for key, _ in some) != [value for _, value in some]:
        raise _WrongError("agree", "get and scan do not agree")
    if database.gets([b"absent"]) != [None]:
        raise _WrongError("agree", "a key that was never put is found")
    return dict(entries)


def _second_opening(engine: Engine, mode: Mode, directory: str, contents: dict[bytes, bytes]) -> None:
    """It shows the same, and the database goes on working."""
    database = _opened(engine, mode, directory)
    try:
        if dict(database.scan()) != contents:
            raise _WrongError("reopen", "the second opening shows something else")
        for number in range(COMMITS_AFTER):
            change: Change = (b"~after-%d" % (number % 9), b"%d" % number * 20)
            database.commit([change])
            apply([change], contents)
        last: Change = (min(contents), None)
        database.commit([last])
        apply([last], contents)
        if dict(database.scan()) != contents:
            raise _WrongError("go on", "it does not hold what twelve more commits and a delete left")
        problem = database.check()
        if problem:
            raise _WrongError("check", f"the check after more commits finds: {problem}")
    except _WrongError:
        raise
    except Exception as error:
        raise _WrongError("go on", f"{type(error).__name__}: {error}") from error
    finally:
        database.close()


def _third_opening(engine: Engine, mode: Mode, directory: str, contents: dict[bytes, bytes]) -> None:
    database = _opened(engine, mode, directory)
    try:
        if dict(database.scan()) != contents:
            raise _WrongError("go on", "what was committed after the power cut is gone")
        problem = database.check()
        if problem:
            raise _WrongError("check", f"the check finds: {problem}")
    finally:
        database.close()
