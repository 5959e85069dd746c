"""The PEP 517 build backend: meson-python, with zig as the C compiler where the machine has none.

zig is a build requirement anyway, because it compiles the engine to WebAssembly.
"""

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import mesonpy


def _prepare() -> None:
    """Say what is missing, if anything is, and choose the C compiler."""
    if importlib.util.find_spec("ziglang") is None:
        raise SystemExit(
            "kvwasi: the package ziglang, which compiles the engine to WebAssembly, is missing. Leave out "
            "--no-build-isolation, or `pip install` what build-system.requires in pyproject.toml names."
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise SystemExit(
            f"kvwasi: Python's C headers are missing, {header}: install python3-dev (Debian, Ubuntu, Alpine) "
            "or python3-devel (Fedora, RHEL, openSUSE)."
        )
    _choose_c_compiler()


def _choose_c_compiler() -> None:
    """Point CC at zig when no C compiler is set or found on PATH."""
    if os.environ.get("CC") or any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        return
    zig = f"{shlex.quote(sys.executable)} -m ziglang"
    os.environ["CC"] = f"{zig} cc -mcpu=baseline"  # zig's own default is this machine's CPU alone
    os.environ.setdefault("AR", f"{zig} ar")


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    _prepare()
    return mesonpy.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    _prepare()
    return mesonpy.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    _prepare()
    return mesonpy.build_sdist(sdist_directory, config_settings)


get_requires_for_build_wheel = mesonpy.get_requires_for_build_wheel
get_requires_for_build_editable = mesonpy.get_requires_for_build_editable
get_requires_for_build_sdist = mesonpy.get_requires_for_build_sdist
