"""A screen shows what a terminal would show at the end, line by line."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wandbkeras.context.screen import MAX_LINE, Screen


def shown(*texts: str) -> list[tuple[int, str]]:
    """The lines, each in its last state, that were written in these pieces."""
    screen = Screen(itertools.count())
    found: dict[int, str] = {}
    for text in texts:
        screen.write(text)
        found.update(screen.take_changed(whole=False))
    found.update(screen.take_changed(whole=True))
    return list(found.items())


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("hello\rab\n", ["abllo"]),
        ("dos\r\nlines\r\n", ["dos", "lines"]),
        ("abc\b\bd\nx  \n\nend", ["adc", "x", "", "end"]),
        ("\x1b[1m1/9\x1b[0m\r\x1b[1m9/9\x1b[0m\n", ["\x1b[1m9/9\x1b[0m"]),
        ("wide line\r\x1b[Kshort\x1b[0K", ["short"]),
        ("a\x1b[?25lb\x1b]0;title\x07c\x1b7", ["abc"]),
        (
            "outer 1\n\rinner 1\x1b[A\router 2\n\rinner 2\x1b[A\n\nend",
            ["outer 2", "inner 2", "end"],
        ),
    ],
)
def test_a_line_is_in_its_last_state(text: str, lines: list[str]) -> None:
    """The movements that progress bars make are followed, colours are kept."""
    assert [line for _, line in shown(text)] == lines


@given(st.lists(st.sampled_from([*"ab\n\r\b ", "\x1b[A", "\x1b[31m", "\x1b[K", "\x1b[2K", "é"])))
def test_it_does_not_matter_in_which_pieces_it_comes(pieces: list[str]) -> None:
    """A movement may be cut anywhere."""
    whole = "".join(pieces)
    assert dict(shown(*whole)) == dict(shown(whole))


@given(st.integers(0, 300), st.integers(1, 2_000))
def test_many_lines_at_once_are_the_same_lines(before: int, size: int) -> None:
    """They are numbered without gaps, however many of them come together."""
    text = "".join(f"line {number}\n" for number in range(before, 900)) + "end"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    expected = [*(f"line {number}" for number in range(before, 900)), "end"]
    assert shown(*pieces) == list(enumerate(expected))


def test_a_long_line_says_how_much_of_it_is_not_kept() -> None:
    """Also where it is written over."""
    assert shown("x" * (MAX_LINE + 5)) == [(0, "x" * MAX_LINE + "… (5 characters more)")]
    ((_, line),) = shown("short\r", "y" * (MAX_LINE + 7))
    assert line == "y" * MAX_LINE + "… (7 characters more)"
