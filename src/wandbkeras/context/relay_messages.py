"""What the relay of a console tells the program that it serves, a few bytes each."""

from __future__ import annotations

import re
from collections.abc import Mapping

# It lives; all that the program has printed is passed on and recorded; and what was printed on the
# first or the second stream can't be passed on any more.
ALIVE, DONE = b".", b"d"
BROKEN: Mapping[str, bytes] = {"stdout": b"o", "stderr": b"e"}
HEARTBEAT_S = 2.0
_PID = re.compile(rb"\[(\d+)\]")


def pid_message(pid: int) -> bytes:
    """Return the first message, which says who the relay is.

    >>> pid_in(pid_message(4711)), pid_in(ALIVE)
    (4711, None)
    """
    return b"[%d]" % pid


def pid_in(said: bytes) -> int | None:
    found = _PID.search(said)
    return None if found is None else int(found[1])
