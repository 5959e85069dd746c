"""Readers beside a writer, all of them killed now and then: what they see, what is kept, how fast they read.

Four processes read while one writes, and each is killed by SIGKILL at random and started again. Commit n of
the writer's history is a function of n, so that a reader can tell from the number that it finds what all the
rest must be: after each refresh it has to see all of one commit, one that is not older than the last that was
acknowledged when it asked, and then the same until it asks again. Afterwards: what was kept for the killed
readers is used again, and how many reads four processes make beside what one makes.
"""

import argparse
import json
import mmap
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kvwasi

READERS = 4
BLOCKS, KEYS_A_BLOCK = 61, 12
SIZES = (0, 20, 20, 200, 200, 3000, 3000, 30_000)
LARGE = 100_000
SECTOR_BYTES = 256 << 10
COMPACT_EVERY = 20_000
LOOKUP_KEYS = 50_000
VIOLATION = 3


# --- the history: what commit n does, and what there is after it ---


def _mixed(number: int, salt: int = 0) -> int:
    """Something like a random number: the same for the same arguments everywhere."""
    mixed = (number * 0x9E3779B97F4A7C15 + salt * 0xC2B2AE3D27D4EB4F) & (2**64 - 1)
    return (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9 % 2**64 >> 20


def rewrites(number: int) -> bool:
    """Whether the commit rewrites a block of keys; else it changes the counter only."""
    return _mixed(number) % 4 != 0


def last_rewrite(block: int, number: int) -> int:
    """The last commit up to ``number`` that has rewritten the block; 0 if none has."""
    at = number - (number - block) % BLOCKS
    while at > 0 and not rewrites(at):
        at -= BLOCKS
    return max(at, 0)


def value_of(number: int, key: int) -> bytes | None:
    """What commit ``number`` puts under the key of its block; None: it deletes it."""
    chance = _mixed(number, key + 1)
    if number == 0 or chance % 11 == 0:
        return None
    size = LARGE if chance % 199 == 0 else SIZES[chance // 11 % len(SIZES)]
    return b"%d/%d " % (number, key) + b"x" * size


def entries_of(block: int, number: int) -> Iterator[tuple[bytes, bytes | None]]:
    """The keys of a block with their values after commit ``number``."""
    wrote = last_rewrite(block, number)
    for key in range(block * KEYS_A_BLOCK, (block + 1) * KEYS_A_BLOCK):
        yield b"key %06d" % key, value_of(wrote, key)


class Acknowledged:
    """The number of the last commit that was acknowledged, in memory that the processes share."""

    def __init__(self, place: Path) -> None:
        with open(place, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    @property
    def number(self) -> int:
        """As it is now."""
        return int.from_bytes(self._memory[:8], "little")

    @number.setter
    def number(self, number: int) -> None:
        self._memory[:8] = number.to_bytes(8, "little")


# --- the processes ---


def write(place: Path, seed: int) -> None:
    """Go on with the history until killed."""
    chance, acknowledged = random.Random(seed), Acknowledged(place / "acknowledged")
    mode = chance.choice(("commit", "none", "none"))
    with kvwasi.open(place / "my.kv", sync=mode, sector_bytes=SECTOR_BYTES) as store:  # type: ignore[arg-type]
        number = int(store.get("n", b"0"))
        if number < acknowledged.number:
            violation(f"commit {acknowledged.number} was acknowledged, {number} is the last there is")
        told = 0.0
        while True:
            number += 1
            if chance.random() < 0.01:
                roll_back(store, chance)
            with store.transaction() as t:
                t["n"] = str(number)
                for key, value in entries_of(number % BLOCKS, number) if rewrites(number) else ():
                    if value is not None:
                        t[key] = value
                    else:
                        t.pop(key, None)
            acknowledged.number = number
            if number % COMPACT_EVERY == 0:
                store.compact()
            if time.monotonic() - told > 0.1:
                told = time.monotonic()
                tell_stats(store, place)


def roll_back(store: kvwasi.Store, chance: random.Random) -> None:
    """A transaction of which nothing may ever be seen."""
    with store.transaction() as t:
        for _ in range(chance.choice((3, 30))):
            t[b"never %d" % chance.randrange(9)] = bytes(chance.choice((10, 50_000, LARGE)))
        t.rollback()


def tell_stats(store: kvwasi.Store, place: Path) -> None:
    stats = store.stats()
    facts = {
        name: getattr(stats, name) for name in ("kept_checkpoints", "file_bytes", "live_bytes", "checkpoint")
    }
    (place / "stats-new").write_text(json.dumps(facts))
    os.replace(place / "stats-new", place / "stats")


def read(place: Path, seed: int) -> None:
    """Look at what there is, again and again, until killed."""
    chance, acknowledged = random.Random(seed), Acknowledged(place / "acknowledged")
    views = open(place / f"views-{os.getpid()}", "wb", buffering=0)  # noqa: SIM115 (until the process ends)
    number = 0
    while True:
        at_least = acknowledged.number
        with kvwasi.open(place / "my.kv", "r") as store:
            for _ in range(chance.choice((1, 20, 200))):
                found = int(store.get("n", b"0"))
                if found < max(at_least, number):
                    violation(f"commit {found} after {number}, {at_least} was acknowledged")
                number = found
                until = time.monotonic() + (chance.random() * 2 if chance.random() < 0.05 else 0)
                examine(store, number, chance)
                while time.monotonic() < until:  # the same as long as it is not refreshed
                    examine(store, number, chance)
                views.write(b".")
                if chance.random() < 0.1:
                    with store.snapshot() as snapshot:
                        at_least = acknowledged.number
                        store.refresh()
                        examine(snapshot, number, chance)
                else:
                    at_least = acknowledged.number
                    store.refresh()


def examine(store: "kvwasi.Store | kvwasi.Snapshot", number: int, chance: random.Random) -> None:
    """Everything there is, or some of it, must be as commit ``number`` has left it."""
    if int(store.get("n", b"0")) != number:
        violation(f"the counter has left {number}")
    if chance.random() < 0.05:
        expected = {b"n": b"%d" % number} if number else {}
        for block in range(BLOCKS):
            expected |= {key: value for key, value in entries_of(block, number) if value is not None}
        if dict(store.items()) != expected or len(store) != len(expected):
            violation(f"the entries are not those of commit {number}")
        return
    for block in chance.sample(range(BLOCKS), 4):
        for key, value in entries_of(block, number):
            if store.get(key) != value:
                violation(f"{key!r} is not what it is after commit {number}")


def violation(text: str) -> None:
    print(f"violation: {text}", flush=True)
    os._exit(VIOLATION)


def look_up(place: Path, seconds: float) -> None:
    """How many random keys a process finds a second."""
    chance = random.Random(1)
    keys = [b"%08d" % chance.randrange(LOOKUP_KEYS) for _ in range(20_000)]
    with kvwasi.open(place, "r") as store:
        get = store.get

        def turn() -> None:
            for key in keys:
                get(key)

        turn()
        tell_rate(turn, len(keys), seconds)


def compute(place: Path, seconds: float) -> None:
    """The same for what needs a processor and nothing else."""

    def turn() -> None:
        for _ in range(100_000):
            pass

    tell_rate(turn, 100_000, seconds)


def tell_rate(turn: Callable[[], None], count: int, seconds: float) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    begin, used, turns = time.monotonic(), time.process_time(), 0
    while time.monotonic() - begin < seconds:
        turn()
        turns += 1
    done = turns * count
    print(done / (time.monotonic() - begin), done / (time.process_time() - used), flush=True)


ROLES: dict[str, Callable[[Path, Any], None]] = {
    "write": write,
    "read": read,
    "look-up": look_up,
    "compute": compute,
}


# --- the run ---


class Run:
    """The processes, and what became of them."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place = place
        self.chance = random.Random(seed)
        self.kills = {"read": 0, "write": 0}
        self.failures: list[str] = []
        self.running: list[tuple[str, subprocess.Popen[str]]] = []
        self.most = {"kept_checkpoints": 0, "file_bytes": 0}

    def start(self, role: str) -> None:
        command = [sys.executable, "-P", __file__, role, str(self.place), str(self.chance.randrange(2**30))]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )
        self.running.append((role, process))

    def kill(self, at: int) -> str:
        role, process = self.running.pop(at)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            self.kills[role] += 1
        said, _ = process.communicate()
        if process.returncode != -signal.SIGKILL or said:
            self.failures.append(f"{role}: exit {process.returncode}: {said.strip()}")
        return role

    def stats(self) -> dict[str, int]:
        try:
            facts: dict[str, int] = json.loads((self.place / "stats").read_text())
        except FileNotFoundError:
            return {}
        self.most = {name: max(most, facts[name]) for name, most in self.most.items()}
        return facts

    def torture(self, seconds: float) -> None:
        for role in ["write"] + ["read"] * READERS:
            self.start(role)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.failures:
            time.sleep(self.chance.uniform(0.1, 1.2))
            self.stats()
            ended = [at for at, (_, process) in enumerate(self.running) if process.poll() is not None]
            at = ended[0] if ended else self.chance.randrange(len(self.running))
            self.start(self.kill(at))

    def heal(self, seconds_max: float) -> dict[str, int]:
        """The readers are dead. What was kept for them is used again, if the writer goes on."""
        for at in reversed(range(len(self.running))):
            if self.running[at][0] == "read":
                self.kill(at)
        if not self.running and not self.failures:
            self.start("write")
        end = time.monotonic() + seconds_max
        facts = self.stats()
        begun = facts.get("checkpoint", 0)
        while time.monotonic() < end and not self.failures:
            time.sleep(0.2)
            facts = self.stats()
            if facts.get("kept_checkpoints") == 0 and facts["checkpoint"] != begun:
                break
        while self.running:
            self.kill(0)
        return facts

    def views(self) -> int:
        return sum(file.stat().st_size for file in self.place.glob("views-*"))


def rates_of(role: str, place: Path, processes: int, seconds: float) -> tuple[float, float]:
    """How much so many processes do in a second, all together; and each in a second of its processor."""
    command = [sys.executable, "-P", __file__, role, str(place), str(seconds)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    rates = [tuple(map(float, process.communicate()[0].split())) for process in started]
    return sum(rate[0] for rate in rates), statistics.mean(rate[1] for rate in rates)


def measure(place: Path, turns: int, seconds: float) -> dict[str, tuple[float, float]]:
    """What four processes do in proportion to one, by the clock and by the processor's time.

    When they read, and when they only compute: that is what the machine gives at the moment.
    """
    with kvwasi.open(place, sync="none") as store:
        store.put_many((b"%08d" % number, b"%d" % number * 10) for number in range(LOOKUP_KEYS))
    ratios: dict[str, list[tuple[float, float]]] = {"look-up": [], "compute": []}
    for _ in range(turns):
        for role, found in ratios.items():
            one, many = rates_of(role, place, 1, seconds), rates_of(role, place, READERS, seconds)
            found.append((many[0] / one[0], many[1] / one[1]))
    return {
        role: (statistics.median(clock for clock, _ in found), statistics.median(used for _, used in found))
        for role, found in ratios.items()
    }


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in ROLES:
        role, given, number = sys.argv[1:]
        ROLES[role](Path(given), int(number) if role in ("write", "read") else float(number))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(2**30))
    parser.add_argument("--turns", type=int, default=15, help="of the measurement; 0: none")
    parser.add_argument("--directory", help="on the disk to be used")
    parser.add_argument("--output", type=Path, help="a file for the result")
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=arguments.directory))
    try:
        text, ok = run(place, arguments)
    finally:
        shutil.rmtree(place)
    print(text, end="")
    if arguments.output is not None and ok:
        arguments.output.write_text(text)
    return 0 if ok else 1


def run(place: Path, arguments: argparse.Namespace) -> tuple[str, bool]:
    (place / "acknowledged").write_bytes(bytes(8))
    kvwasi.open(place / "my.kv", sector_bytes=SECTOR_BYTES).close()
    torture = Run(place, arguments.seed)
    torture.torture(arguments.seconds)
    healed = torture.heal(30)
    with kvwasi.open(place / "my.kv") as store:
        problems = store.check()
        commits = int(store.get("n", b"0"))
    failures = torture.failures + [str(problem) for problem in problems]
    if healed.get("kept_checkpoints") != 0:
        failures.append(f"what was kept for killed readers is kept still: {healed}")
    kills, most = torture.kills, torture.most
    lines = [
        f"{READERS} readers and a writer, each a process, {arguments.seconds:g} s, seed {arguments.seed}",
        f"killed: {kills['read']} readers, {kills['write']} writers",
        f"commits: {commits}; looks of readers: {torture.views()}; violations: {len(failures)}",
        f"older checkpoints kept for readers: at most {most['kept_checkpoints']},"
        f" after the last reader was killed {healed.get('kept_checkpoints')}",
        f"file: at most {most['file_bytes'] >> 20} MiB; live: {healed.get('live_bytes', 0) >> 20} MiB",
    ]
    if arguments.turns:
        ratios = measure(place / "look-up.kv", arguments.turns, 0.5)
        for role, name in (("look-up", "random reads"), ("compute", "mere computing, on this machine now")):
            clock, used = ratios[role]
            lines.append(
                f"{name}: {READERS} processes together {clock:.2f} times one;"
                f" each {used:.2f} times one in a second of its processor"
            )
    return "\n".join(lines + failures) + "\n", not failures


if __name__ == "__main__":
    sys.exit(main())
