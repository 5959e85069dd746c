"""A reader of database files, written from FORMAT.md alone: slow, simple, independent of the engine."""

import struct
from pathlib import Path

import xxhash

SUPERBLOCK = struct.Struct("<Q8sIIQQQQQQQQQQ24x")
SECTOR = struct.Struct("<QIHHIIQQQQI4x")
RECORD = struct.Struct("<IIQQIIIHBB")
PUT, DELETE, COMMIT, CLOSE = 1, 2, 3, 4
ENDS_COMMIT, EXTERNAL = 1, 2
MULTIPLIER, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def low_half(data: bytes, seed: int) -> int:
    return xxhash.xxh64_intdigest(data, seed) & 0xFFFFFFFF


class Database:
    """The contents of a file: ``items`` is a dict from key to value."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        slots = [self._superblock(0), self._superblock(4096)]
        newest = max((slot for slot in slots if slot), key=lambda slot: slot[7])
        assert newest[2] == 1 and newest[6] == 0  # version; features that forbid opening
        self.sector_bytes, self.id, self.first, self.first_number = (
            newest[3],
            newest[8],
            newest[9],
            newest[10],
        )
        self.items: dict[bytes, bytes] = {}
        self._replay(self._chain())

    def _superblock(self, at: int) -> tuple[int, ...] | None:
        raw = self.data[at : at + 128]
        fields = SUPERBLOCK.unpack(raw)
        valid = fields[1] == b"kvwasi\r\n" and fields[0] == xxhash.xxh64_intdigest(raw[8:], 0)
        return fields if valid else None

    def _sector(self, number: int) -> tuple[int, ...] | None:
        for copy in (0, 64):
            at = 8192 + number * self.sector_bytes + copy
            raw = self.data[at : at + 64].ljust(64, b"\0")
            fields = SECTOR.unpack(raw)
            valid = fields[1] == 0x5365766B and fields[0] == xxhash.xxh64_intdigest(raw[8:], self.id)
            if valid and fields[7] == number:
                return fields
        return None

    def _chain(self) -> list[tuple[int, ...]]:
        logs, number = {}, 0
        while 8192 + number * self.sector_bytes < len(self.data):
            header = self._sector(number)
            if header and header[2] == 1:
                logs[header[6]] = header
            number += header[4] if header else 1
        for newest in sorted(logs, reverse=True):
            chain = [logs[newest]]
            while chain[0][6] != self.first and chain[0][9] // self.sector_bytes in logs:
                chain.insert(0, logs[chain[0][9] // self.sector_bytes])
            if chain[0][6] == self.first and chain[0][7] == self.first_number:
                return chain
        raise ValueError("no log")

    def _replay(self, chain: list[tuple[int, ...]]) -> None:
        pending: list[tuple[int, bytes, bytes]] = []
        last_commit, last_sum = 0, chain[0][10]
        for index, (_, _, _, _, _, _, generation, number, salt, _, _) in enumerate(chain):
            base, at = 8192 + number * self.sector_bytes, 128
            end = chain[index + 1][9] - generation * self.sector_bytes if index + 1 < len(chain) else None
            while at != end:
                position = generation * self.sector_bytes + at
                seed = salt ^ (position * MULTIPLIER & MASK)
                head = self.data[base + at : base + at + RECORD.size]
                if len(head) < RECORD.size or not head[38]:
                    return
                total, chained, commit, _, length, value_sum, _, key_length, kind, flags = RECORD.unpack(head)
                body = base + at + RECORD.size + key_length
                covered = self.data[base + at + 4 : body + (8 if flags & EXTERNAL else 0)]
                if total != low_half(covered, seed) or chained != last_sum:
                    return
                start, used = body, length if kind == PUT else 0
                if flags & EXTERNAL:
                    (start,), used = struct.unpack_from("<Q", self.data, body), 8
                key = self.data[body - key_length : body]
                value = self.data[start : start + length] if kind == PUT else b""
                if kind == PUT and low_half(value, 0) != value_sum:
                    return
                if commit != last_commit:
                    pending = []
                if kind in (PUT, DELETE):
                    pending.append((kind, key, value))
                if flags & ENDS_COMMIT:
                    for done, pending_key, pending_value in pending:
                        if done == PUT:
                            self.items[pending_key] = pending_value
                        else:
                            self.items.pop(pending_key, None)
                    pending = []
                last_commit, last_sum = commit, total
                at += (RECORD.size + key_length + used + 7) & ~7
