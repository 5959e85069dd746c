"""kvwasi: an embedded key-value store in WebAssembly, and a fast WASI file host."""
