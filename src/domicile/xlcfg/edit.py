"""Edits of an `xl.cfg` that leave every other byte of it alone.

What domicile adds is one line for each key, under a comment line that marks it:

    # added by domicile: node 1 (cpus_soft)
    cpus_soft = "4-5"

The mark names the key, so that one left behind by somebody who deleted the line under it claims no other. The two lines
are domicile's together: a value that is changed under the mark is still domicile's.

They stand at the end, so that they count whatever was assigned before (of several assignments `xl` takes the last), and
an edit never touches an assignment that is not marked. Setting a key again replaces its marked lines, and
`without_added` gives the file as it was, to the byte, its missing final newline included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from domicile.errors import BadInput
from domicile.xlcfg.syntax import Config, Setting, parse
from domicile.xlcfg.values import Plain, rendered

__all__ = ["MARK", "added_keys", "added_lines", "with_value", "without", "without_added"]

MARK = "# added by domicile"

KEY = re.compile(r"[a-z][._0-9a-z]*")
_MARK_LINE = re.compile(rf"{MARK}(?:: .*)? \((?P<key>{KEY.pattern})\)")


class _Span(NamedTuple):
    """`text[start:end]`, to be cut out. `took_newline`: see `_added_span`."""

    start: int
    end: int
    took_newline: bool = False


def with_value(config: Config, key: str, value: Plain, note: str = "") -> Config:
    """The config with a key set to a value, in marked lines; `note` (one line) says in the mark what for.

    Marked lines of the key are replaced where they stand if they still count there, else they go to the end. Raises
    `BadInput` where nothing can be appended because `xl` drops a stray byte at the end of the text.
    """
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of an xl config")
    mark = f"{MARK}: {note} ({key})" if note else f"{MARK} ({key})"
    if not mark.isprintable():
        raise ValueError("a note is one printable line")
    lines = f"{mark}\n{key} = {rendered(value)}"
    own = [setting for setting in config.settings if setting.key == key and _is_added(config, setting)]
    last = config.effective[key][1] if key in config else None
    if len(own) == 1 and own[0] is last:
        start = _mark_start(config, own[0])
        return _parsed(config, config.text[:start] + lines + config.text[own[0].end :])
    return _appended(_cut(config, (_added_span(config, setting) for setting in own)), lines)


def without(config: Config, key: str) -> Config:
    """The config without any assignment to a key, marked or not. Lines left empty go; comments stay."""
    spans = (
        _added_span(config, setting) if _is_added(config, setting) else _statement_span(config, setting)
        for setting in config.settings
        if setting.key == key
    )
    return _cut(config, spans)


def without_added(config: Config) -> Config:
    """The config without anything that domicile added."""
    return _cut(config, (_added_span(config, setting) for setting in config.settings if _is_added(config, setting)))


def added_keys(config: Config) -> tuple[str, ...]:
    """The keys that domicile set, in order."""
    return tuple(setting.key for setting in config.settings if _is_added(config, setting))


def added_lines(config: Config) -> list[str]:
    """The lines that domicile added, marks included, in order."""
    return [
        line
        for setting in config.settings
        if _is_added(config, setting)
        for line in config.text[_mark_start(config, setting) : setting.end].split("\n")
    ]


def _parsed(config: Config, text: str) -> Config:
    return parse(text, config.source)


def _appended(config: Config, lines: str) -> Config:
    """The config with lines at its end; a text without a final newline keeps that habit."""
    text = config.text
    if config.stray and not text.endswith("#"):
        # after a newline xl would no longer drop it, but refuse the whole file; a '#' becomes a comment and is fine
        line = text.count("\n") + 1
        problem = f"xl ignores the stray {text[-1]!a} at the very end; remove it, so that lines can be added"
        raise BadInput(config.source, problem, f"line {line}")
    if text and not text.endswith("\n"):
        return _parsed(config, f"{text}\n{lines}")
    return _parsed(config, f"{text}{lines}\n")


def _cut(config: Config, spans: Iterable[_Span]) -> Config:
    """The config without these stretches, which are in order and apart."""
    all_spans = list(spans)
    if not all_spans:
        return config
    pieces, position = [], 0
    for span in all_spans:
        pieces.append(config.text[position : span.start])
        position = span.end
    rest = "".join([*pieces, config.text[position:]])
    if all_spans[-1].took_newline and rest.endswith("\n"):
        try:
            return _parsed(config, rest[:-1])
        except BadInput:
            # a comment has become the last line, and there xl insists on the newline
            return _parsed(config, rest)
    return _parsed(config, rest)


def _line_start(text: str, offset: int) -> int:
    return text.rfind("\n", 0, offset) + 1


def _line_end(text: str, offset: int) -> int:
    """Where the line's newline is, or the end of the text."""
    end = text.find("\n", offset)
    return len(text) if end < 0 else end


def _line_before(text: str, start: int) -> str:
    """The line above the one that starts at `start`; empty if there is none."""
    return text[_line_start(text, start - 1) : start - 1] if start else ""


def _is_added(config: Config, setting: Setting) -> bool:
    """Whether an assignment is marked: it starts its line, and the line before is a mark for its key."""
    text, start = config.text, setting.start
    # the character before goes first: a file of one long line must not be searched for every assignment in it
    if start == 0 or text[start - 1] != "\n":
        return False
    mark = _MARK_LINE.fullmatch(_line_before(text, start))
    return mark is not None and mark["key"] == setting.key


def _mark_start(config: Config, setting: Setting) -> int:
    """Where the mark starts; marks left behind just above it go too, or they would come to stand above others."""
    start = setting.start
    while _MARK_LINE.fullmatch(_line_before(config.text, start)):
        start = _line_start(config.text, start - 1)
    return start


def _added_span(config: Config, setting: Setting) -> _Span:
    """The mark and the line of the assignment with its newline, but for further assignments on that line.

    Without one they are the end of a text that had no final newline when they were added, and got one before the first
    mark: that one goes with the last.
    """
    text = config.text
    start = _mark_start(config, setting)
    end = _line_end(text, setting.end)
    after = text[setting.end : end].strip(" \t;")
    if after and not after.startswith("#"):
        return _Span(start, _statement_span(config, setting).end)
    if end < len(text):
        return _Span(start, end + 1)
    return _Span(start, end, took_newline=True)


def _statement_span(config: Config, setting: Setting) -> _Span:
    """An assignment with the `;` after it, or its whole lines when nothing else is on them."""
    text = config.text
    line_start, line_end = _line_start(text, setting.start), _line_end(text, setting.end)
    before, after = text[line_start : setting.start], text[setting.end : line_end]
    if not before.strip(" \t") and not after.strip(" \t;"):
        return _Span(line_start, min(line_end + 1, len(text)))
    if after.lstrip(" \t").startswith(";"):
        return _Span(setting.start, text.index(";", setting.end) + 1)
    return _Span(setting.start, setting.end)
