"""An event loop around a body that is given an open store."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import kvwasi.aio
from kvwasi.aio import AsyncStore


def run(path: Path, body: Callable[[AsyncStore], Awaitable[Any]], **options: Any) -> Any:
    """What ``body`` returns."""

    async def main() -> Any:
        async with kvwasi.aio.open(path, **options) as store:
            return await body(store)

    return asyncio.run(main())
