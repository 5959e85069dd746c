"""A reader of database files, written from FORMAT.md alone: slow, simple, independent of the engine."""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import xxhash

PAGE, SECTORS, DATA = 4096, 8192, 128
LOG, VALUES, INDEX, INSIDE = 1, 2, 3, 255
PUT, DELETE, COMMIT, VALUE, TABLE, DROP, UNDO = 1, 2, 3, 5, 6, 7, 8
ENDS_COMMIT, EXTERNAL = 1, 2
MULTIPLIER, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
SECTOR_MAGIC, MAP_MAGIC = 0x5365766B, 0x4D65766B


class Superblock(NamedTuple):
    sum: int
    magic: bytes
    version: int
    sector_bytes: int
    compatible: int
    read_compatible: int
    incompatible: int
    sequence: int
    database_id: int
    replay: int
    log_sector: int
    chain: int
    installed: int
    generation: int
    root_page: int
    root_height: int
    root_count: int
    catalog_page: int
    catalog_height: int
    catalog_count: int
    map_page: int
    map_pages: int
    map_sectors: int
    durable: int
    commit: int
    file_bytes: int


class Sector(NamedTuple):
    type: int
    span: int
    generation: int
    salt: int
    previous: int = 0
    chain: int = 0


class Place(NamedTuple):
    """Where a value lies; in the catalog a number or a root instead."""

    offset: int
    length: int
    sum: int


class Record(NamedTuple):
    sum: int
    chain: int
    commit: int
    confirmed: int
    value_length: int
    value_sum: int
    table: int
    key_length: int
    type: int
    flags: int
    key: bytes
    value: Place
    bytes: int


@dataclass
class Table:
    name: bytes
    places: dict[bytes, Place] = field(default_factory=dict)


SUPERBLOCK = struct.Struct("<Q8sIIQQQQQQQIIQIIQIIQIIQQQQ88x")
HEADER = struct.Struct("<QIHHIIQQQQI4x")
RECORD = struct.Struct("<IIQQIIIHBB")
NODE = struct.Struct("<BBHHHHBBIIIQ64s")
ENTRY = struct.Struct("<B3xIIIQQ")


def low_half(data: bytes, seed: int) -> int:
    return xxhash.xxh64_intdigest(data, seed) & 0xFFFFFFFF


class Database:
    """The contents of a file: ``items`` of the default table, and ``tables``, from names to such dicts."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        slots = [slot for slot in (self._superblock(0), self._superblock(PAGE)) if slot]
        self.super = max(slots, key=lambda slot: slot.sequence)
        assert self.super.version == 2 and self.super.incompatible == 1
        assert len(self.data) >= self.super.file_bytes
        self.sector_bytes = self.super.sector_bytes
        self.pages_a_sector = self.sector_bytes // PAGE
        self.used_pages: set[int] = set()
        self.seen_pages: set[int] = set()
        self.replayed = self.undone = 0  # records behind the checkpoint
        self.sectors = self._sectors(self._map())
        self.contents = {0: Table(b"", self._tree(self.super.root_page, self.super.root_height))}
        assert len(self.contents[0].places) == self.super.root_count
        self._catalog()
        assert self.seen_pages == self.used_pages, "the map's bits are the pages of the trees and of the map"
        self._replay(self._chain())

    @property
    def items(self) -> dict[bytes, bytes]:
        return self._values(self.contents[0].places)

    @property
    def tables(self) -> dict[bytes, dict[bytes, bytes]]:
        return {t.name: self._values(t.places) for number, t in self.contents.items() if number}

    def _values(self, places: dict[bytes, Place]) -> dict[bytes, bytes]:
        return {key: self._value(key, place) for key, place in places.items()}

    def _value(self, key: bytes, place: Place) -> bytes:
        self._check_record(key, place)
        value = self.data[place.offset : place.offset + place.length]
        assert len(value) == place.length and low_half(value, 0) == place.sum
        return value

    def _check_record(self, key: bytes, place: Place) -> None:
        """What stands in front of a value is the header and key of its record, valid in its sector."""
        begin = place.offset - len(key) - RECORD.size
        number = (begin - SECTORS) // self.sector_bytes
        while number not in self.sectors:  # within a run
            number -= 1
        sector, base = self.sectors[number], SECTORS + number * self.sector_bytes
        assert begin < base + sector.span * self.sector_bytes
        total, *_, length, value_sum, _, _, kind, flags = RECORD.unpack_from(self.data, begin)
        seed = sector.salt ^ ((sector.generation * self.sector_bytes + begin - base) * MULTIPLIER & MASK)
        assert total == low_half(self.data[begin + 4 : place.offset], seed)
        assert self.data[begin + RECORD.size : place.offset] == key and not flags & EXTERNAL
        assert (length, value_sum) == (place.length, place.sum)
        assert (sector.type, kind) in ((LOG, PUT), (VALUES, VALUE))

    def _superblock(self, at: int) -> Superblock | None:
        raw = self.data[at : at + 256]
        found = Superblock(*SUPERBLOCK.unpack(raw))
        valid = found.magic == b"kvwasi\r\n" and found.sum == xxhash.xxh64_intdigest(raw[8:], 0)
        return found if valid else None

    # --- sectors ---

    def _map(self) -> bytes:
        pieces, page = [], self.super.map_page
        for _ in range(self.super.map_pages):
            raw = self._page(page)
            magic, following, sequence = struct.unpack_from("<IIQ", raw)
            assert magic == MAP_MAGIC and sequence <= self.super.sequence
            pieces.append(raw[32:])
            page = following
        assert page == 0
        return b"".join(pieces)

    def _sectors(self, space: bytes) -> dict[int, Sector]:
        """By number: those in use, and ``used_pages``."""
        found: dict[int, Sector] = {}
        taken, bits_at = set(), self.super.map_sectors * ENTRY.size
        for number in range(self.super.map_sectors):
            kind, span, _, _, generation, salt = ENTRY.unpack_from(space, number * ENTRY.size)
            if not kind:
                continue
            taken.add(number)
            if kind == INSIDE:
                continue
            found[number] = Sector(kind, span, generation, salt, *self._log_header(number, kind, generation))
            if kind == INDEX:
                first = SECTORS // PAGE + number * self.pages_a_sector
                bits = int.from_bytes(space[bits_at : bits_at + self.pages_a_sector // 8], "little")
                self.used_pages |= {first + i for i in range(self.pages_a_sector) if bits >> i & 1}
                bits_at += self.pages_a_sector // 8
        number = 0
        while SECTORS + number * self.sector_bytes < len(self.data):
            header = None if number in taken else self._header(number)
            if header and header.type in (LOG, VALUES) and header.generation >= self.super.generation:
                run = set(range(number, number + header.span))
                if not run & taken:
                    found[number] = header
                    number += header.span - 1
            number += 1
        return found

    def _log_header(self, number: int, kind: int, generation: int) -> tuple[int, int]:
        header = self._header(number) if kind == LOG else None
        assert kind != LOG or (header and header.generation == generation)
        return (header.previous, header.chain) if header else (0, 0)

    def _header(self, number: int) -> Sector | None:
        for copy in (0, 64):
            at = SECTORS + number * self.sector_bytes + copy
            raw = self.data[at : at + 64].ljust(64, b"\0")
            total, magic, kind, _, span, _, generation, own, salt, previous, chain = HEADER.unpack(raw)
            valid = total == xxhash.xxh64_intdigest(raw[8:], self.super.database_id)
            if valid and magic == SECTOR_MAGIC and own == number:
                return Sector(kind, span, generation, salt, previous, chain)
        return None

    # --- the checkpoint's trees ---

    def _page(self, page: int) -> bytes:
        raw = self.data[page * PAGE : (page + 1) * PAGE]
        own, _, total = struct.unpack_from("<IIQ", raw, 16)
        seed = self.super.database_id ^ (page * MULTIPLIER & MASK)
        assert own == page
        assert total == xxhash.xxh64_intdigest(raw[:24] + bytes(8) + raw[32:], seed)
        assert page not in self.seen_pages
        self.seen_pages.add(page)
        return raw

    def _tree(self, page: int, height: int) -> dict[bytes, Place]:
        found: list[tuple[bytes, Place]] = []
        assert (page == 0) == (height == 0)
        if page:
            self._node(page, height - 1, found)
        keys = [key for key, _ in found]
        assert keys == sorted(set(keys))
        return dict(found)

    def _node(self, page: int, level: int, found: list[tuple[bytes, Place]]) -> None:
        raw = self._page(page)
        own_level, _, count, heap, dead, prefix_length, skip, zero, first, _, frame, _, _ = NODE.unpack_from(
            raw
        )
        assert own_level == level and frame == zero == 0 and (count or not skip)
        prefix = raw[PAGE - prefix_length :]
        payload, live, shared = (4 if level else 16), 0, b""
        if level:
            self._node(first, level - 1, found)
        for i in range(count):
            head, offset, length = struct.unpack_from("<IHH", raw, 96 + 8 * i)
            suffix = raw[offset + payload : offset + payload + length]
            assert head == int.from_bytes(suffix[skip : skip + 4].ljust(4, b"\0"), "big")
            shared = suffix[:skip] if i == 0 else shared
            assert suffix[:skip] == shared and len(shared) == skip
            if count >= 17 and i and i % (count // 17) == 0 and i // (count // 17) <= 16:
                assert struct.unpack_from("<I", raw, 32 + 4 * (i // (count // 17) - 1)) == (head,)
            live += payload + length
            key = prefix + suffix
            if level:
                before = len(found)
                assert not found or found[-1][0] < key
                self._node(*struct.unpack_from("<I", raw, offset), level - 1, found)
                assert len(found) == before or found[before][0] >= key
            else:
                found.append((key, Place(*struct.unpack_from("<QII", raw, offset))))
        assert heap + dead + live == PAGE - prefix_length

    def _catalog(self) -> None:
        entries = self._tree(self.super.catalog_page, self.super.catalog_height)
        assert len(entries) == self.super.catalog_count
        names = {place.offset: key[1:] for key, place in entries.items() if key[0] == 2}
        for key, (root, low, high) in entries.items():
            if key[0] != 1:
                continue
            number = int.from_bytes(key[1:], "big")
            assert number < entries[b"\0"].offset
            self.contents[number] = Table(names.pop(number), self._tree(root & 0xFFFFFFFF, root >> 32))
            assert len(self.contents[number].places) == high << 32 | low
        assert not names

    # --- the log behind the checkpoint ---

    def _chain(self) -> list[tuple[int, Sector]]:
        logs = {s.generation: (number, s) for number, s in self.sectors.items() if s.type == LOG}
        first = self.super.replay // self.sector_bytes
        for newest in sorted(logs, reverse=True):
            chain = [logs[newest]]
            while chain[0][1].generation != first and chain[0][1].previous // self.sector_bytes in logs:
                chain.insert(0, logs[chain[0][1].previous // self.sector_bytes])
            if chain[0][1].generation == first and chain[0][0] == self.super.log_sector:
                return chain
        raise ValueError("no log")

    def _record(self, base: int, at: int, sector: Sector, chain: int) -> Record | None:
        """The valid record at byte ``at`` of a sector, if there is one."""
        begin = base + at
        head = self.data[begin : begin + RECORD.size]
        if len(head) < RECORD.size or not head[38] or at + RECORD.size > self.sector_bytes - 8:
            return None
        fields = RECORD.unpack(head)
        total, chained, _, _, length, value_sum, _, key_length, kind, flags = fields
        body = begin + RECORD.size + key_length
        covered = self.data[begin + 4 : body + (8 if flags & EXTERNAL else 0)]
        seed = sector.salt ^ ((sector.generation * self.sector_bytes + at) * MULTIPLIER & MASK)
        if total != low_half(covered, seed) or chained != chain:
            return None
        start, used = body, length if kind == PUT else 0
        if flags & EXTERNAL:
            (start,), used = struct.unpack_from("<Q", self.data, body), 8
        place = Place(start, length, value_sum)
        if kind == PUT and low_half(self.data[start : start + length], 0) != value_sum:
            return None
        step = (RECORD.size + key_length + used + 7) & ~7
        return Record(*fields, self.data[body - key_length : body], place, step)

    def _replay(self, chain: list[tuple[int, Sector]]) -> None:
        pending: list[Record] = []
        last_commit, last_sum = 0, self.super.chain
        at, end = self.super.replay % self.sector_bytes, 0
        for index, (number, sector) in enumerate(chain):
            base = SECTORS + number * self.sector_bytes
            following = chain[index + 1][1] if index + 1 < len(chain) else None
            start = sector.generation * self.sector_bytes
            while following is None or start + at != following.previous:
                record = self._record(base, at, sector, last_sum)
                if record is None:
                    break
                if record.commit != last_commit:
                    pending = []
                pending.append(record)
                self.replayed += 1
                last_commit, last_sum, at = record.commit, record.sum, at + record.bytes
                if record.flags & ENDS_COMMIT:
                    self._apply(pending)
                    pending, last_commit, end = [], 0, start + at
            if following is None or start + at != following.previous:
                break
            assert following.chain == last_sum
            at = DATA
        assert max(end, self.super.replay) >= self.super.durable, "damaged"

    def _apply(self, records: list[Record]) -> None:
        assert records[-1].type != COMMIT or records[-1].value_length == len(records) - 1
        counting: list[tuple[int, Record]] = []
        for number, record in enumerate(records):
            if record.type == UNDO:
                self.undone += 1
                counting = [(n, r) for n, r in counting if n < record.value_length]
            else:
                counting.append((number, record))
        for _, record in counting:
            if record.type == TABLE:
                self.contents[record.table] = Table(record.key)
            elif record.type == DROP:
                del self.contents[record.table]
            elif record.type == PUT:
                self.contents[record.table].places[record.key] = record.value
            elif record.type == DELETE:
                self.contents[record.table].places.pop(record.key, None)
