"""Numbers of things, in words."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number of things whose plural ends in an s.

    >>> counted(1, "row"), counted(0, "file"), counted(2000, "artifact version")
    ('1 row', '0 files', '2000 artifact versions')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
