"""What all formats share: an entry, and the error of a malformed input."""

Entry = tuple[bytes, bytes]
"""A key and its value."""


class FormatError(ValueError):
    """The input is not in its format; ``line`` counts from 1.

    >>> str(FormatError(3, "odd number of hexadecimal digits"))
    'line 3: odd number of hexadecimal digits'
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem
