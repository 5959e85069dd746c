"""The PEP 517 build backend: meson-python, with zig as the C compiler where the machine has none."""

import os
import shutil
import sys
from typing import Any

import mesonpy


def _ensure_c_compiler() -> None:
    """Point CC at ``python -m ziglang cc`` when no C compiler is set or found on PATH."""
    if os.environ.get("CC") or any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        return
    os.environ["CC"] = f"{sys.executable} -m ziglang cc"
    os.environ.setdefault("AR", f"{sys.executable} -m ziglang ar")


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    _ensure_c_compiler()
    return mesonpy.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    _ensure_c_compiler()
    return mesonpy.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    _ensure_c_compiler()
    return mesonpy.build_sdist(sdist_directory, config_settings)


get_requires_for_build_wheel = mesonpy.get_requires_for_build_wheel
get_requires_for_build_editable = mesonpy.get_requires_for_build_editable
get_requires_for_build_sdist = mesonpy.get_requires_for_build_sdist
