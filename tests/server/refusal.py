"""The one exception by which the server says no, and whether saying no is also a violation."""

from __future__ import annotations


class RefusalError(Exception):
    """A request is refused with `status`.

    With `violation` the client did something no correct client does (a gap in the history, a wrong
    checksum); it is recorded for the test's teardown.
    Without, it is an ordinary answer of the real server (unknown entity, deleted run).
    """

    def __init__(self, status: int, message: str, *, violation: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.violation = violation


def violation(kind: str, message: str, *, status: int = 400) -> RefusalError:
    """A refusal that is recorded under `kind`."""
    return RefusalError(status, message, violation=kind)
