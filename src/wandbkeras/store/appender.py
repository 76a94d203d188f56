"""Appending records to a journal on a disk that may take no more.

What the disk does not take is noted, said once on standard error, and made good as soon as it takes
bytes again; or it is refused with an error, where that is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from wandbkeras.errors import DiskFullError
from wandbkeras.store.checks import readable
from wandbkeras.store.journal import JournalWriter, encode_frame
from wandbkeras.store.limits import HARMLESS_BYTES, beyond
from wandbkeras.store.room import CapReachedError
from wandbkeras.store.shortage import Shortage
from wandbkeras.store.state import EVENT, HISTORY, Event

OnFull = Literal["drop", "raise"]

# A run may have many events to record late; where room is short, its end is worth more.
_LAST_WORDS_BYTES = 2 << 10


class Appender:
    """Appends to ``journal``, the segment of the moment of the run at ``root``.

    ``told`` is called with each ``dropped`` event that is recorded: what says in the run how much
    is missing. The callers take care that one thread is here at a time.
    """

    def __init__(
        self,
        journal: JournalWriter,
        root: Path,
        on_full: OnFull,
        clock: Callable[[], float],
        told: Callable[[Event], None],
    ) -> None:
        self.journal = journal
        self.error: OSError | None = None
        self._root = root
        self._refuses = on_full == "raise"
        self._clock = clock
        self._told = told
        self._shortage: Shortage | None = None
        self._said: set[str] = set()

    @property
    def lost(self) -> str:
        """What is neither recorded nor told of in the run, in words."""
        return "" if self._shortage is None else str(self._shortage)

    @property
    def is_short(self) -> bool:
        """Whether anything is neither recorded nor told of in the run."""
        return self._shortage is not None

    def append(self, record: tuple[Any, ...]) -> bool:
        """Append a record; False, taking note of it, if the disk does not take it."""
        try:
            if self._shortage is None:
                frame = encode_frame(record)
                if len(frame) > HARMLESS_BYTES:
                    self._warn_of_limits(record)
                self.journal.append(frame)
            else:
                self._append_after(self._shortage, record)
        except OSError as error:
            self._miss(record, error)
            return False
        return True

    def make_good(self) -> None:
        """Record the events that were kept, and tell in the run what was not; or OSError."""
        shortage = self._shortage
        if shortage is None:
            return
        while shortage.kept:
            self.journal.append(shortage.kept[0])
            shortage.take_kept()
        if shortage.rows or shortage.events:
            reason = readable(f"the disk took no more: {self.error}")  # which names a path
            body = {"rows": shortage.rows, "events": shortage.events, "reason": reason}
            event = Event("dropped", self._clock(), body)
            self.journal.append(encode_frame((EVENT, event.type, event.timestamp, body)))
            shortage.take_counts()
            self._told(event)
        if shortage.is_over:
            self._shortage = None

    def end(self, record: tuple[Any, ...], make_room: Callable[[], None]) -> None:
        """Append the last record, in the room that ``make_room`` makes if need be; or OSError."""
        frame = encode_frame(record)
        if self._shortage is not None:
            self._shortage.end_row()
        try:
            self.make_good()
            self.journal.append(frame)
        except OSError:
            make_room()
            if self._shortage is not None:
                self._shortage.let_go(_LAST_WORDS_BYTES)
            self.make_good()
            self.journal.append(frame)

    def miss(self, what: str, error: OSError) -> None:
        """Count ``what``, which is no record but as much as one, or refuse it."""
        self.refuse(error)
        self._shortage = self._shortage or Shortage()
        self._shortage.events += 1
        if isinstance(error, CapReachedError):  # the rows may still go on for long
            self.warn("artifacts", f"{what} is not recorded, training goes on: {error}")
        else:
            self._warn_of_loss(error)

    def refuse(self, error: OSError | None = None) -> None:
        """Raise the error of what was not recorded, the latest, if that is asked for."""
        self.error = error or self.error
        if self._refuses:
            text = f"{self._root}: the disk takes no more: {self.error}"
            raise DiskFullError(text) from self.error

    def warn(self, topic: str, text: str) -> None:
        """Say the first trouble of a kind; the rest is counted."""
        if topic not in self._said:
            self._said.add(topic)
            self.say(text)

    def _warn_of_limits(self, record: tuple[Any, ...]) -> None:
        """Say, once for each metric, what is recorded and W&B will not take."""
        if record[0] != EVENT:
            where, values = f"step {record[1]}", record[4]
        elif record[1] == "summary":
            where, values = "the summary", record[3].get("update", {})
        else:
            return
        for key, reason in beyond(values).items():
            text = f"{key!r:.200} in {where} is recorded, and will not be sent: {reason}"
            self.warn(f"limit of {key}", text)

    def say(self, text: str) -> None:
        print(f"wandbkeras: {self._root}: {text}", file=sys.stderr)  # noqa: T201

    def _append_after(self, shortage: Shortage, record: tuple[Any, ...]) -> None:
        """Append a record, and before it what was to be recorded or told already."""
        is_row = record[0] != EVENT
        if is_row:
            shortage.begin_row(record[1])
        self.make_good()
        self.journal.append(encode_frame(record))
        if is_row and self._shortage is not None:
            shortage.take_row(record[1], record[4])
            if shortage.is_over:
                self._shortage = None

    def _miss(self, record: tuple[Any, ...], error: OSError) -> None:
        """Take note of a record that the disk did not take."""
        self.error = error
        if record[0] != EVENT:
            self._shortage = self._shortage or Shortage()
            last = record[0] == HISTORY and not self._refuses
            self._shortage.miss_row(record[1], record[4], last=last)
        elif not self._refuses:
            self._shortage = self._shortage or Shortage()
            self._shortage.keep(encode_frame(record))
        if not self._refuses:
            self._warn_of_loss(error)

    def _warn_of_loss(self, error: OSError) -> None:
        self.warn("disk", f"not everything is recorded from here on, training goes on: {error}")
