"""Text of others on a terminal: readable, coloured where it was, and without any power."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_app.cli.terminal import Cleaner, shown

# What may be left of a control sequence.
COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
POWER = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def clean(*pieces: bytes, colour: bool = True) -> str:
    cleaner = Cleaner(colour=colour)
    return "".join(cleaner.feed(piece) for piece in pieces)


def test_plain_text_stays_as_it_is() -> None:
    assert (
        clean("Zeile 1\n\tä → 🐘\r\n40 %\r80 %\n".encode()) == "Zeile 1\n\tä → 🐘\r\n40 %\r80 %\n"
    )


def test_colours_stay_and_the_terminal_gets_its_own_back_at_the_end() -> None:
    cleaner = Cleaner(colour=True)

    assert cleaner.feed(b"\x1b[1;38;2;255;0;0mrot") == "\x1b[1;38;2;255;0;0mrot"
    assert cleaner.close() == "\x1b[0m"


def test_output_without_colours_ends_without_a_reset() -> None:
    cleaner = Cleaner(colour=True)
    cleaner.feed(b"plain\x1b[2J")

    assert cleaner.close() == ""


def test_without_colours_none_are_left() -> None:
    assert clean(b"\x1b[31mrot\x1b[0m", colour=False) == "rot"


@pytest.mark.parametrize(
    ("written", "left"),
    [
        (b"a\x1b[2Jb", "ab"),  # clear the screen
        (b"a\x1b[10;10Hb", "ab"),  # move
        (b"a\x1b[?1049hb", "ab"),  # another screen
        (b"a\x1b[6nb", "ab"),  # ask where the cursor is: the answer would be typed
        (b"a\x1b]0;title\x07b", "ab"),
        (b"a\x1b]0;title\x1b\\b", "ab"),
        (b"a\x1b]52;c;cm0gLXJmIC8=\x07b", "ab"),  # the clipboard
        (b"a\x1b]8;;http://evil.example\x1b\\b\x1b]8;;\x1b\\c", "abc"),  # a link
        (b'a\x1bP$q"p\x1b\\b', "ab"),  # DCS
        (b"a\x1b_apc\x1b\\b\x1b^pm\x1b\\c\x1bXsos\x1b\\d", "abcd"),
        (b"a\x1bcb", "ab"),  # reset
        (b"a\x1b(0b", "ab"),  # another character set
        (b"a\x1b#8b", "ab"),
        ("a\x9b2Jb".encode(), "ab"),  # the same in eight bits
        ("a\x9d0;title\x9cb".encode(), "ab"),
        ("a\x9b31mb".encode(), "a\x1b[31mb"),
        (b"a\x00\x07\x08b", "a␀␇␈b"),
        (b"a\x7fb", "a␡b"),
        ("a\u202eb\u2066c".encode(), "a<U+202E>b<U+2066>c"),
        (b"a\xff\xfeb", "a��b"),
        (b"\x1b]0;never ended\nnext line", "\nnext line"),
        (b"\x1b[31", ""),
    ],
)
def test_what_would_steer_the_terminal_is_dropped_or_shown(written: bytes, left: str) -> None:
    assert clean(written) == left


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=6),
            st.text(max_size=4).map(str.encode),
            st.sampled_from(
                [b"\x1b", b"[", b"]", b"m", b"31", b";", b"\x07", b"\\", b"P", b"\n", b"\xc2\x9b"]
            ),
        ),
        max_size=30,
    )
)
def test_whatever_comes_in_whatever_pieces_nothing_powerful_is_left(pieces: list[bytes]) -> None:
    left = clean(*pieces)

    assert POWER.findall(COLOUR.sub("", left)) == []


@given(st.binary(max_size=40), st.integers(0, 40))
def test_it_does_not_matter_where_the_pieces_end(data: bytes, at: int) -> None:
    mixed = data.replace(b"a", b"\x1b[").replace(b"b", b"\x1b]0;").replace(b"c", b"31m")

    assert clean(mixed[:at], mixed[at:]) == clean(mixed)


def test_a_sequence_without_end_neither_swallows_nor_keeps_a_megabyte() -> None:
    left = clean(b"\x1b]0;" + b"x" * 1_000_000 + b"\nafter")

    assert left.endswith("\nafter")


def test_a_name_is_one_line_whatever_it_holds() -> None:
    assert shown("a\nb\x1b[31mc\x1b[2J") == "a bc"
