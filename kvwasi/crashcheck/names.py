"""How cases are called in reports, and the command that shows one again."""

__all__ = ["Named", "reproducing"]


def reproducing(name: object) -> str:
    """The command that shows a case again, by its name."""
    return f"kvwasi crashtest --reproduce {name}"


class Named:
    """A case whose ``str`` is its name."""

    @property
    def command(self) -> str:
        """The command that shows it again."""
        return reproducing(self)
