"""Put the tables of bench/results/ into README.md, each behind its ``<!-- table: FILE -->``."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
_PLACE = re.compile(r"<!-- table: (\S+) -->\n+((?:\|.*\n)*)\n*")


def filled(text: str) -> str:
    """``text`` with every table as it is in its file now."""

    def table(place: re.Match[str]) -> str:
        lines = (ROOT / place[1]).read_text().splitlines(keepends=True)
        return f"<!-- table: {place[1]} -->\n\n{''.join(line for line in lines if line.startswith('|'))}\n"

    return _PLACE.sub(table, text)


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
    sys.exit(0)
