"""Where things lie in a database file, as ``guest-db/src/format.h`` and FORMAT.md have it."""

__all__ = ["SECTORS_START", "SECTOR_MAGIC", "SUPERBLOCK_MAGIC", "SUPERBLOCK_SLOTS"]

SUPERBLOCK_SLOTS = (0, 4096)
SUPERBLOCK_MAGIC = b"kvwasi\r\n"
"""At byte 8 of a slot."""
SECTORS_START = 8192
SECTOR_MAGIC = b"kveS"
"""At byte 8 of a sector, unless it lies within another one's run."""
