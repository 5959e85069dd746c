"""Tests run outside the checkout: in it, ``python -c`` would import the sources, not what is installed."""

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.configuration
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _outside_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    hypothesis.configuration.set_hypothesis_home_dir(ROOT / ".hypothesis")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("cwd"))
        yield


@pytest.fixture
def dirty_pages(tmp_path: Path) -> Callable[[Path], int]:
    """How many pages of a file are only in the page cache, and not on their way to the device either."""
    cachestat = 451  # Linux 6.5, the same number on all processors

    def ask(path: Path) -> int:
        whole = (ctypes.c_uint64 * 2)(0, 0)
        answer = (ctypes.c_uint64 * 5)()  # in the cache, dirty, being written, evicted, evicted recently
        with path.open("rb") as file:
            if ctypes.CDLL(None).syscall(
                cachestat, file.fileno(), ctypes.byref(whole), ctypes.byref(answer), 0
            ):
                pytest.skip("the kernel does not tell the state of a file's pages")
        return answer[1]

    probe = tmp_path / "probe"
    with probe.open("wb") as file:
        file.write(bytes(1 << 20))
        os.fdatasync(file.fileno())
    if ask(probe):
        pytest.skip("the file system has no device")
    probe.unlink()
    return ask
