"""`xl.cfg` as `xl` reads it: a lossless parser for libxlutil's grammar.

Source: Xen 4.17 to 4.23, tools/libs/util/libxlu_cfg_y.y (the grammar, the same in all of them) and libxlu_cfg.c
(what assignments mean). What `xl` refuses is refused here, with the line; what it accepts is accepted, its oddities
included. Two bounds are tighter than `xl`'s: 1 MiB of config is too much, and so are lists nested more than 100 deep
(`xl` runs out of its parser's stack somewhere below 5,000).

The grammar in short: statements `key = value` or `key += value`, ended by a newline or `;`; a value is a string, a
number or a list in brackets; newlines may stand in a list after `[`, a value or a comma; one comma may trail. Of
several assignments to a key the last counts; `+=` appends to what the key has (string to string, list to list).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from domicile.errors import BadInput
from domicile.xlcfg.lexer import Kind, Lines, Token, shown, tokens, unquoted
from domicile.xlcfg.values import Atom, Items, Value

__all__ = ["MAX_CONFIG_BYTES", "MAX_DEPTH", "Config", "Setting", "decode", "encode", "parse", "read_config"]

MAX_CONFIG_BYTES = 1 << 20
MAX_DEPTH = 100
LONG_MAX = (1 << 63) - 1

_LONG = re.compile(r"[ \t\n\v\f\r]*([+-]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*))")


@dataclass(frozen=True, slots=True)
class Setting:
    """One assignment: `text[start:end]`, on (or starting on) `line`. `adds` is whether it is a `+=`."""

    key: str
    value: Value
    adds: bool
    line: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Config:
    """An `xl.cfg`: its text, byte for byte, and what is assigned in it.

    `settings` are all assignments in order; `effective` has for each key the value that counts and the assignment that
    completed it; `stray` is whether the text ends in a byte that `xl` drops.

    The getters give what `xl` would see for a key: None where it is not set, `BadInput` with the line where it is set
    to something of another kind. (`xl` warns in such a case and goes on as if the key were not there; a guest with 1
    vCPU because of a typing error is not what anybody meant.)
    """

    text: str
    source: str
    settings: tuple[Setting, ...]
    effective: Mapping[str, tuple[Value, Setting]]
    stray: bool = False

    def __contains__(self, key: str) -> bool:
        return key in self.effective

    def place(self, key: str) -> str:
        """Where a key is set, as errors name it; empty where it is not."""
        found = self.effective.get(key)
        return f"line {found[1].line}" if found else ""

    def error(self, key: str, problem: str) -> BadInput:
        """The error that something is wrong with the value of a key."""
        return BadInput(self.source, f"{key}: {problem}", self.place(key))

    def value(self, key: str) -> Value | None:
        """What a key is set to, of whatever kind."""
        found = self.effective.get(key)
        return found[0] if found else None

    def string(self, key: str) -> str | None:
        """The single value of a key (`xlu_cfg_get_string`)."""
        value = self.value(key)
        if isinstance(value, Items):
            raise self.error(key, "a list where a single value should be")
        return value.text if value else None

    def number(self, key: str) -> int | None:
        """The number that a key is set to (`xlu_cfg_get_long`: decimal, 0x hexadecimal or 0 octal, quoted or not)."""
        text = self.string(key)
        if text is None:
            return None
        found = _LONG.fullmatch(text)
        if found is None:
            raise self.error(key, f"{shown(text)} is no number")
        if self.effective[key][1].adds:
            raise self.error(key, "+= cannot be used with a number")
        for digits, base in ((found["hex"], 16), (found["octal"], 8), (found["decimal"], 10)):
            # the length goes first: Python refuses to convert digits by the thousand
            if digits is not None and (len(digits.lstrip("0")) > 22 or int(digits, base) > LONG_MAX):
                raise self.error(key, f"{shown(text)} is too large a number")
            if digits is not None:
                return -int(digits, base) if found[1] == "-" else int(digits, base)
        raise AssertionError(text)

    def flag(self, key: str) -> bool | None:
        """Whether a key is set to a number other than 0 (`xlu_cfg_get_defbool`)."""
        number = self.number(key)
        return None if number is None else number != 0

    def items(self, key: str) -> Items | None:
        """The list that a key is set to (`xlu_cfg_get_list`)."""
        value = self.value(key)
        if isinstance(value, Atom):
            raise self.error(key, "a single value where a list should be")
        return value


def decode(data: bytes) -> str:
    """A config's bytes as text, losslessly: what is no UTF-8 becomes lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes of a config's text; the inverse of `decode`."""
    return text.encode("utf-8", "surrogateescape")


def read_config(path: str | Path) -> Config:
    """Read an `xl.cfg`. Raises `BadInput` if it cannot be read or `xl` would refuse it."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise BadInput(str(path), f"cannot be read: {reason}") from error
    return parse(decode(data), str(path))


def parse(text: str, source: str) -> Config:
    """Read the text of an `xl.cfg`; `source` is what errors call it. Raises `BadInput` for what `xl` would refuse."""
    if len(text) >= MAX_CONFIG_BYTES or len(text.encode("utf-8", "surrogatepass")) >= MAX_CONFIG_BYTES:
        raise BadInput(source, "1 MiB or more; this is no xl config")
    parser = _Parser(text, source)
    settings = tuple(parser.statements())
    return Config(text, source, settings, _effective(settings, source), parser.stray)


def _effective(settings: Sequence[Setting], source: str) -> dict[str, tuple[Value, Setting]]:
    """Key to its value in the end and the assignment that completed it. Raises `BadInput` for a list += string."""
    parts: dict[str, tuple[list[Value], Setting]] = {}
    for setting in settings:
        pieces: list[Value] = []
        if setting.adds and setting.key in parts:
            pieces = parts[setting.key][0]
            if type(pieces[0]) is not type(setting.value):
                problem = f"{setting.key}: += cannot add a list to a single value or the other way round"
                raise BadInput(source, problem, f"line {setting.line}")
        pieces.append(setting.value)
        parts[setting.key] = (pieces, setting)
    return {key: (_joined(pieces), setting) for key, (pieces, setting) in parts.items()}


def _joined(pieces: Sequence[Value]) -> Value:
    """Values of one kind made into one, in order."""
    last = pieces[-1]
    if len(pieces) == 1:
        return last
    if isinstance(last, Atom):
        return Atom("".join(piece.text for piece in pieces if isinstance(piece, Atom)), last.line)
    return Items(tuple(value for piece in pieces if isinstance(piece, Items) for value in piece.values), last.line)


class _Parser:
    """Statements from words. Lists are read without recursion: a config may try to nest them to any depth."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.lines = Lines(text)
        self.words = tokens(text, source, self.lines)
        self.current = next(self.words)
        self.stray = False

    def statements(self) -> Iterator[Setting]:
        """All assignments."""
        while self._here() is not Kind.END:
            if self.current.kind in (Kind.NEWLINE, Kind.SEMICOLON):
                self._take()
            else:
                yield self._assignment()

    def _assignment(self) -> Setting:
        key = self._expect("a key", Kind.IDENT)
        operator = self._expect("'=' or '+='", Kind.ASSIGN, Kind.ADD)
        value, end = self._value()
        if self._here() not in (Kind.NEWLINE, Kind.SEMICOLON, Kind.END):
            self._fail("the end of the line or ';'")
        line = self.lines.number(key.start)
        adds = operator.kind is Kind.ADD
        return Setting(self.text[key.start : key.end], value, adds, line, key.start, end)

    def _value(self) -> tuple[Value, int]:
        """A value and where it ends."""
        open_lists: list[tuple[Token, list[Value]]] = []
        while True:
            word = self._expect("a value (a string in quotes, a number or a list)", Kind.STRING, Kind.NUMBER, Kind.OPEN)
            if word.kind is Kind.OPEN:
                open_lists.append((word, []))
                if len(open_lists) > MAX_DEPTH:
                    raise BadInput(self.source, f"lists nested more than {MAX_DEPTH} deep", self._place(word))
                self._skip_newlines()
                if self._here() is not Kind.CLOSE:
                    continue
                value, end = self._close(open_lists)
            else:
                value, end = self._atom(word), word.end
            while open_lists:
                open_lists[-1][1].append(value)
                if not self._list_ends(open_lists[-1][0]):
                    break
                value, end = self._close(open_lists)
            else:
                return value, end

    def _list_ends(self, opened: Token) -> bool:
        """After a value in a list: go past the comma, if there is one; whether the list ends here."""
        self._skip_newlines()
        if self._here() is Kind.COMMA:
            self._take()
            self._skip_newlines()
        elif self._here() is not Kind.CLOSE:
            line = self.lines.number(opened.start)
            self._fail(f"',' or ']' of the list that starts on line {line}")
        return self._here() is Kind.CLOSE

    def _close(self, open_lists: list[tuple[Token, list[Value]]]) -> tuple[Value, int]:
        """The innermost list, complete, and where it ends."""
        opened, values = open_lists.pop()
        return Items(tuple(values), self.lines.number(opened.start)), self._take().end

    def _atom(self, word: Token) -> Atom:
        literal = self.text[word.start : word.end]
        if word.kind is Kind.STRING:
            literal = unquoted(literal, self.source, self._place(word))
        return Atom(literal, self.lines.number(word.start))

    def _here(self) -> Kind:
        """The kind of the next word; a stray last byte is gone past, as `xl` does."""
        if self.current.kind is Kind.STRAY:
            self.stray = True
            self._take()
        return self.current.kind

    def _take(self) -> Token:
        taken = self.current
        if taken.kind is not Kind.END:
            self.current = next(self.words)
        return taken

    def _skip_newlines(self) -> None:
        while self._here() is Kind.NEWLINE:
            self._take()

    def _expect(self, what: str, *kinds: Kind) -> Token:
        if self._here() not in kinds:
            self._fail(what)
        return self._take()

    def _fail(self, expected: str) -> NoReturn:
        word = self.current
        named = word.kind in (Kind.NEWLINE, Kind.END)
        found = word.kind.value if named else shown(self.text[word.start : word.end])
        raise BadInput(self.source, f"{found} where {expected} should be", self._place(word))

    def _place(self, word: Token) -> str:
        at_end = word.kind is Kind.END and word.start > 0
        return self.lines.place(word.start - 1 if at_end else word.start)
