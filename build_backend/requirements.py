"""Print the requirements that pyproject.toml states, one a line: to build, run and test, or of one extra.

python requirements.py [EXTRA]
"""

import sys
import tomllib
from pathlib import Path

OPTIONAL = {"peers"}  # needed for nothing but a comparison, and not to be had everywhere

with open(Path(__file__).resolve().parent.parent / "pyproject.toml", "rb") as file:
    stated = tomllib.load(file)
project = stated["project"]
extras = project["optional-dependencies"]
groups = (
    [extras[sys.argv[1]]]
    if len(sys.argv) > 1
    else [
        stated["build-system"]["requires"],
        project["dependencies"],
        *(extra for name, extra in extras.items() if name not in OPTIONAL),
    ]
)
print("\n".join(sorted({requirement for group in groups for requirement in group})))
