"""The WASI host: preview1 file calls at native speed for any module run by wasmtime-py."""
