"""The ``kvwasi`` command: parse, call the API, print."""


def main() -> None:
    """Entry point of the ``kvwasi`` command."""
