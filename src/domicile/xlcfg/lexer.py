"""The words of an `xl.cfg`: what libxlutil's scanner makes of the bytes, and what it chokes on.

Source: Xen 4.17 to 4.23, tools/libs/util/libxlu_cfg_l.l (the scanner) and libxlu_cfg.c (`xlu__cfgl_dequote`); the two
did not change between those releases.

`xl` reads bytes and knows no encoding. Here a config is a `str` decoded as UTF-8 with `surrogateescape`, so every byte
survives; nothing outside a string or a comment may be other than ASCII anyway.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from domicile.errors import BadInput

__all__ = ["Kind", "Lines", "Token", "quoted", "shown", "tokens", "unquoted"]

MAX_SHOWN = 40


class Kind(Enum):
    """The kinds of words; the value is what a person calls it."""

    IDENT = "a name"
    STRING = "a string"
    NUMBER = "a number"
    ASSIGN = "'='"
    ADD = "'+='"
    OPEN = "'['"
    CLOSE = "']'"
    COMMA = "','"
    SEMICOLON = "';'"
    NEWLINE = "the end of the line"
    END = "the end of the file"
    STRAY = "a stray last byte"
    """The scanner drops a byte that it does not know when it is the very last of the file (flex stops before the rule
    that would complain has matched). It has to be known to whoever wants to append a line."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word: `text[start:end]`."""

    kind: Kind
    start: int
    end: int


class Lines:
    """Line numbers, from 1, of the offsets in a text."""

    def __init__(self, text: str) -> None:
        self._ends = [found.start() for found in re.finditer("\n", text)]

    def number(self, offset: int) -> int:
        """The line that the character at `offset` is on; a newline is on the line that it ends."""
        return bisect_right(self._ends, offset - 1) + 1

    def place(self, offset: int) -> str:
        """The place as errors name it."""
        return f"line {self.number(offset)}"


_WORD = re.compile(
    r"""
    (?P<blank>[ \t]+)
  | (?P<NEWLINE>\n|\#[^\n]*\n)
  | (?P<IDENT>[a-z][._0-9a-z]*)
  | (?P<NUMBER>[0-9][0-9a-fx]*)
  | (?P<STRING>'(?:[^'\\\n]|\\[^\n])*'|"(?:[^"\\\n]|\\[^\n])*")
  | (?P<ADD>\+=)
  | (?P<ASSIGN>=)
  | (?P<OPEN>\[)
  | (?P<CLOSE>\])
  | (?P<COMMA>,)
  | (?P<SEMICOLON>;)
    """,
    re.VERBOSE,
)


def tokens(text: str, source: str, lines: Lines) -> Iterator[Token]:
    """The words of a config, `END` last. Raises `BadInput` at the first that the scanner refuses."""
    position, end = 0, len(text)
    while position < end:
        word = _WORD.match(text, position)
        if word is None:
            if position == end - 1 and _is_one_byte(text[position]):
                yield Token(Kind.STRAY, position, end)
                break
            raise BadInput(source, _scan_problem(text, position), lines.place(position))
        kind = word.lastgroup
        if kind == "STRING" and "\0" in word.group():
            raise BadInput(source, "a NUL byte in a string; xl aborts at it", lines.place(position))
        if kind is not None and kind != "blank":
            yield Token(Kind[kind], position, word.end())
        position = word.end()
    yield Token(Kind.END, end, end)


def _is_one_byte(char: str) -> bool:
    """Whether a character is one byte of the file: ASCII, or a byte that was no UTF-8."""
    return ord(char) < 0x80 or 0xDC80 <= ord(char) <= 0xDCFF


_BAD_STARTS = {
    "\0": "a NUL byte; this is no xl config",
    "\ufeff": "a byte order mark, which xl refuses; save the file without one",
    "\r": "a carriage return, which xl refuses; give the file Unix line ends (dos2unix does)",
    "#": "the last line is a comment without a newline at its end, which xl refuses; add the newline",
    "'": "the string that starts here does not end on its line",
    '"': "the string that starts here does not end on its line",
    "-": "xl knows no negative numbers",
    ".": "xl knows only whole numbers and no Python",
    "+": "xl knows no Python; only += adds",
    "(": "xl knows no Python: lists are in [ ]",
    ")": "xl knows no Python: lists are in [ ]",
    "{": "xl knows no Python: lists are in [ ]",
    "}": "xl knows no Python: lists are in [ ]",
    ":": "xl knows no Python",
    "\\": "a line cannot be continued with a backslash; a list can go over several lines",
}


def _scan_problem(text: str, position: int) -> str:
    """What makes the text at `position` no word of an xl config."""
    start = text[position]
    stretch = re.compile(r"[^\s,;\[\]=]*").match(text, position)
    found = shown(stretch.group() if stretch and stretch.group() else start)
    if start in _BAD_STARTS:
        return f"{_BAD_STARTS[start]} (near {found})" if start.isprintable() else _BAD_STARTS[start]
    if start.isascii() and start.isalpha():
        return f"{found} is neither a key (keys are lower case) nor a value (give text in quotes)"
    if start == "_":
        return f"{found} is no key: keys start with a lower-case letter"
    return f"{found} cannot stand here; give text in quotes"


def shown(text: str) -> str:
    """A piece of a config as an error message can show it: quoted, printable, on one line, not long."""
    cut = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
    return repr(cut) if cut.isprintable() else ascii(cut)


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "'": "'", "\\": "\\"}
_QUOTED = {char: "\\" + name for name, char in _ESCAPES.items() if name != "'"}
_OCTAL_REST = re.compile(r"[ \t\v\f\r]*[+-]?[0-9]+")


def unquoted(literal: str, source: str, place: str) -> str:
    r"""What a string in quotes stands for. Raises `BadInput` for an escape that `xl` refuses.

    `xl` has two faults that are kept here: `\x..` is refused whatever follows, and an octal escape (which it reads as
    a digit and then a decimal number of 2 or 3 characters) stands for nothing at all.
    """
    body = literal[1:-1]
    if "\\" not in body:
        return body
    out: list[str] = []
    position = 0
    while position < len(body):
        backslash = body.find("\\", position)
        if backslash < 0:
            out.append(body[position:])
            break
        out.append(body[position:backslash])
        name = body[backslash + 1]
        position = backslash + 2
        if name in _ESCAPES:
            out.append(_ESCAPES[name])
        elif name in "01234567":
            rest = _OCTAL_REST.match(body[position : position + 3])
            if rest is None or rest.end() < 2:
                raise BadInput(source, rf"xl refuses the escape \{name} in {shown(literal)}", place)
            position += rest.end()
        else:
            raise BadInput(source, f"xl refuses the escape {shown(chr(92) + name)} in {shown(literal)}", place)
    return "".join(out)


def quoted(text: str) -> str:
    """A string in double quotes that `xl` reads as `text`. ValueError for a NUL byte, which no string can hold."""
    if "\0" in text:
        raise ValueError("an xl string cannot hold a NUL byte")
    return '"' + "".join(_QUOTED.get(char, char) for char in text) + '"'
