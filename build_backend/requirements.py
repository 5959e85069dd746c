"""Print every requirement that pyproject.toml states (to build, to run, to test), one a line."""

import tomllib
from pathlib import Path

with open(Path(__file__).resolve().parent.parent / "pyproject.toml", "rb") as file:
    stated = tomllib.load(file)
project = stated["project"]
groups = [
    stated["build-system"]["requires"],
    project["dependencies"],
    *project["optional-dependencies"].values(),
]
print("\n".join(sorted({requirement for group in groups for requirement in group})))
