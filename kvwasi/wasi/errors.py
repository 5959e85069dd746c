"""What the WASI host raises beside ``OSError``."""

__all__ = ["UnsupportedWasmtimeError"]


class UnsupportedWasmtimeError(ImportError):
    """The ``wasmtime`` package is missing, or its library is not one that this release can drive."""
