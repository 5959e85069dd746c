"""The store for asyncio: the same verbs, awaited. Nothing waits in the loop; writes share flushes.

>>> import asyncio, kvwasi.aio, tempfile, os
>>> async def main(path):
...     async with kvwasi.aio.open(path) as store:
...         await asyncio.gather(*(store.put(f"key {n}", "value") for n in range(100)))  # a few flushes
...         async with store.transaction() as t:
...             await t.put("a", "1")
...             await t.delete("key 7")
...         return await store.count(), [key async for key in store.keys(limit=2)]
>>> with tempfile.TemporaryDirectory() as place:
...     asyncio.run(main(os.path.join(place, "my.kv")))
(100, [b'a', b'key 0'])
"""

from kvwasi.aio.series import AsyncSeries
from kvwasi.aio.store import AsyncSavepoint, AsyncSnapshot, AsyncStore, AsyncTransaction, open
from kvwasi.aio.tables import AsyncDuplicatesTable, AsyncExpiringTable, AsyncTable

__all__ = [
    "AsyncDuplicatesTable",
    "AsyncExpiringTable",
    "AsyncSavepoint",
    "AsyncSeries",
    "AsyncSnapshot",
    "AsyncStore",
    "AsyncTable",
    "AsyncTransaction",
    "open",
]
