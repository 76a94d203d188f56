"""What a stream of a console looks like once it was written: lines, each in its last state.

A carriage return, a backspace and the movements of a terminal that progress bars make are followed;
colours stay in the text, as W&B's Logs page takes them.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# A longer line is cut, and says by how much.
MAX_LINE = 32_768
# As many bars as one sees one below the other; what is above never changes again.
_ROWS = 50
_MOVES = re.compile("[\r\b\x1b]")
# A control sequence, or its beginning at the end of what has come so far.
_CONTROL = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[^\\[\\]])")
_LONGEST_CONTROL = 256
_COLOUR = r"(?:\x1b\[[0-9;]*m)"
_CELL = re.compile(f"{_COLOUR}*[^\x1b]|{_COLOUR}+$")
_COLOURS = re.compile(f"{_COLOUR}+")


@dataclass
class Row:
    """A line. Once something in it was overwritten it is ``cells``: a character each, with the
    colours that are set before it. ``beyond`` counts the characters that were cut off."""

    number: int = -1
    text: str = ""
    cells: list[str] | None = None
    colour: str = ""
    beyond: int = 0

    def append(self, text: str) -> None:
        """Add to the end of a line in which nothing was overwritten."""
        room = max(MAX_LINE - len(self.text), 0)
        self.beyond += max(len(text) - room, 0)
        self.text += text[:room]

    def as_cells(self) -> list[str]:
        if self.cells is None:
            self.cells, self.text = _CELL.findall(self.text), ""
        return self.cells

    def put(self, column: int, text: str) -> None:
        """Write over what stands at ``column``."""
        cells = self.as_cells()
        self.beyond += max(column + len(text) - MAX_LINE, 0)
        text = text[: max(MAX_LINE - column, 0)]
        if text:
            cells.extend(" " * (column - len(cells)))
            cells[column : column + len(text)] = [self.colour + text[0], *text[1:]]
            self.colour = ""

    def leave(self, column: int) -> None:
        """Let the colour that was set last begin where it was set."""
        if self.colour:
            cells = self.as_cells()
            after = _COLOURS.sub("", cells[column]) if column < len(cells) else ""
            cells[column : column + 1] = [self.colour + after]
            self.colour = ""

    @property
    def shown(self) -> str:
        """The text as it is recorded; spaces at its end are not seen."""
        text = (self.text if self.cells is None else "".join(self.cells)) + self.colour
        return f"{text}… ({self.beyond} characters more)" if self.beyond else text.rstrip(" ")


@dataclass
class Screen:
    """The last lines of one stream; each gets the next of ``numbers`` as it begins.

    >>> screen = Screen(iter(range(9)))
    >>> screen.write("loading\\r 10%\\r100%\\nnext")
    >>> screen.take_changed(whole=False), screen.take_changed(whole=True)
    ([(0, '100%ing')], [(1, 'next')])
    """

    numbers: Iterator[int]
    rows: list[Row] = field(default_factory=lambda: [Row()])
    _at: int = 0
    # None: at the end of a line in which nothing was overwritten, as most are.
    _column: int | None = None
    _held: str = ""
    _changed: dict[int, Row] = field(default_factory=dict)
    _gone: list[tuple[int, str]] = field(default_factory=list)

    def write(self, text: str) -> None:
        """Take what was written."""
        text, self._held = self._held + text, ""
        position = 0
        while position < len(text):
            move = _MOVES.search(text, position)
            end = len(text) if move is None else move.start()
            if end > position:
                self._print(text[position:end])
            position = end if move is None else self._move(text, end)

    def take_changed(self, *, whole: bool) -> list[tuple[int, str]]:
        """Return number and text of the lines that have changed since they were returned.

        Without ``whole``, all but the one that is still being written.
        """
        current = self.rows[self._at].number
        rows = [row for row in self._changed.values() if whole or row.number != current]
        for row in rows:
            del self._changed[row.number]
        found, self._gone = self._gone, []
        found += [(row.number, row.shown) for row in rows]
        found.sort(key=operator.itemgetter(0))
        return found

    def _print(self, text: str) -> None:
        first, *others = text.split("\n")
        self._put(first)
        if len(others) > 2 * _ROWS and max(map(len, others)) <= MAX_LINE:
            others = self._pass(others)
        for piece in others:
            self._touch()
            self._next_row()
            self._put(piece)

    def _pass(self, lines: list[str]) -> list[str]:
        """Take the first of many lines, which leave the screen at once; return the others."""
        while self._at + 1 < len(self.rows):
            self._touch()
            self._next_row()
            self._put(lines.pop(0))
        self._touch()
        self._next_row()
        whole = (line.rstrip(" ") for line in lines[:-_ROWS])
        self._gone += [(n, text) for text, n in zip(whole, self.numbers, strict=False)]
        self._put(lines[-_ROWS])
        return lines[1 - _ROWS :]

    def _put(self, text: str) -> None:
        if text and self._column is None:
            self._touch().append(text)
        elif text and self._column is not None:
            self._touch().put(self._column, text)
            self._column += len(text)

    def _touch(self) -> Row:
        """Return the current line, which changes; the first time, it gets its number."""
        row = self.rows[self._at]
        if row.number < 0:
            row.number = next(self.numbers)
        self._changed[row.number] = row
        return row

    def _next_row(self) -> None:
        self._leave()
        self._at += 1
        if self._at < len(self.rows):
            self._column = 0
            return
        self._column = None
        self.rows.append(Row())
        if len(self.rows) > _ROWS:
            del self.rows[0]
            self._at -= 1

    def _move(self, text: str, start: int) -> int:
        """Follow the control character at ``start``; return where what follows it begins."""
        if text[start] == "\x1b":
            found = _CONTROL.match(text, start)
            if found is not None:
                self._follow(found[0])
                return found.end()
            rest = text[start:]
            if len(rest) < _LONGEST_CONTROL:
                self._held = rest
                return len(text)
            return start + 1
        column = self._leave()
        self._column = 0 if text[start] == "\r" else max(column - 1, 0)
        return start + 1

    def _leave(self) -> int:
        """Return the column, before it becomes another."""
        row = self.rows[self._at]
        if self._column is None:
            return len(row.as_cells()) if row.text else 0
        row.leave(self._column)
        return self._column

    def _follow(self, sequence: str) -> None:
        kind = sequence[-1] if sequence[1] == "[" else ""
        count = int(sequence[2:-1]) if sequence[2:-1].isdecimal() else 0
        if kind == "m" and self._column is None:
            self._touch().append(sequence)
        elif kind == "m":
            self._touch().colour += sequence
        elif kind == "A":
            self._column = self._leave()
            self._at = max(self._at - max(count, 1), 0)
        elif kind == "K" and count in (0, 2):
            self._column = self._leave()
            del self._touch().as_cells()[self._column if count == 0 else 0 :]
