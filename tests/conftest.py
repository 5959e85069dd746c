"""Tests run outside the checkout: in it, ``python -c`` would import the sources, not what is installed."""

from collections.abc import Iterator
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
