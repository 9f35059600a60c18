"""The parser against Xen's own: whatever text they get, they agree on whether it is a config and on every value.

libxlutil is in Debian's libxenmisc4.17. Elsewhere the tests skip; DOMICILE_LIBXLUTIL can name the library.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from needs import missing

from domicile.errors import BadInput
from domicile.state.model import Vnode
from domicile.xlcfg.edit import with_value
from domicile.xlcfg.syntax import Config, decode, encode, parse
from domicile.xlcfg.values import Items, Value
from domicile.xlcfg.vnuma import vnuma_value

KEYS = ("a", "b", "cpus", "x.y_0", "vnuma", "cpus_soft")
LIST = 1  # enum XLU_ConfigValueType: XLU_STRING is 0, XLU_LIST 1


def library() -> str | None:
    """Where libxlutil is."""
    named = os.environ.get("DOMICILE_LIBXLUTIL")
    found = sorted(str(path) for lib in Path("/usr/lib").glob("*-linux-gnu*") for path in lib.glob("libxlutil.so.4.*"))
    return named or (found[0] if found else None)


class Libxlutil:
    """libxlutil's parser, called through its exported functions (libxlutil.h)."""

    def __init__(self, path: str) -> None:
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        self.xlu = ctypes.CDLL(path)
        self.libc = ctypes.CDLL(None)
        self._declare(self.libc.fopen, pointer, text, text)
        self.xlu.xlu_cfg_init.restype = pointer
        self._declare(self.xlu.xlu_cfg_init, pointer, pointer, text)
        self._declare(self.xlu.xlu_cfg_readdata, number, pointer, text, number)
        self._declare(self.xlu.xlu_cfg_destroy, None, pointer)
        self._declare(self.xlu.xlu_cfg_get_string, number, pointer, text, ctypes.POINTER(text), number)
        self._declare(self.xlu.xlu_cfg_get_long, number, pointer, text, ctypes.POINTER(ctypes.c_long), number)
        self._declare(self.xlu.xlu_cfg_get_list, number, pointer, text, ctypes.POINTER(pointer), pointer, number)
        self._declare(self.xlu.xlu_cfg_get_listitem2, pointer, pointer, number)
        self._declare(self.xlu.xlu_cfg_value_type, number, pointer)
        self._declare(self.xlu.xlu_cfg_value_get_string, number, pointer, pointer, ctypes.POINTER(text), number)
        self._declare(self.xlu.xlu_cfg_value_get_list, number, pointer, pointer, ctypes.POINTER(pointer), number)
        self.null = self.libc.fopen(b"/dev/null", b"w")

    @staticmethod
    def _declare(function: Any, result: Any, *arguments: Any) -> None:
        function.restype, function.argtypes = result, arguments

    def read(self, data: bytes) -> dict[str, tuple[Any, int | None]] | None:
        """For each of KEYS that is set its value and number; None if the config is refused."""
        config = self.xlu.xlu_cfg_init(self.null, b"config")
        try:
            if self.xlu.xlu_cfg_readdata(config, data, len(data)):
                return None
            return dict(self._settings(config))
        finally:
            self.xlu.xlu_cfg_destroy(config)

    def _settings(self, config: int) -> Iterator[tuple[str, tuple[Any, int | None]]]:
        for key in KEYS:
            text, number, items = ctypes.c_char_p(), ctypes.c_long(), ctypes.c_void_p()
            if not self.xlu.xlu_cfg_get_string(config, key.encode(), ctypes.byref(text), 1):
                is_number = not self.xlu.xlu_cfg_get_long(config, key.encode(), ctypes.byref(number), 1)
                yield key, (text.value, number.value if is_number else None)
            elif not self.xlu.xlu_cfg_get_list(config, key.encode(), ctypes.byref(items), None, 1):
                yield key, (self._list(config, items), None)

    def _list(self, config: int, items: ctypes.c_void_p) -> list[Any]:
        found: list[Any] = []
        while value := self.xlu.xlu_cfg_get_listitem2(items, len(found)):
            text, inner = ctypes.c_char_p(), ctypes.c_void_p()
            if self.xlu.xlu_cfg_value_type(value) == LIST:
                self.xlu.xlu_cfg_value_get_list(config, value, ctypes.byref(inner), 1)
                found.append(self._list(config, inner))
            else:
                self.xlu.xlu_cfg_value_get_string(config, value, ctypes.byref(text), 1)
                found.append(text.value)
        return found


@pytest.fixture(scope="module")
def xl() -> Libxlutil:
    path = library()
    if path is None:
        missing("no libxlutil here (Debian: libxenmisc4.17)")
    return Libxlutil(path)


def plain(value: Value) -> Any:
    """A value as libxlutil's are given here."""
    return [plain(item) for item in value.values] if isinstance(value, Items) else encode(value.text)


def ours(data: bytes) -> dict[str, tuple[Any, int | None]] | None:
    """What `Libxlutil.read` gives, from our parser."""
    try:
        config = parse(decode(data), "config")
    except BadInput:
        return None
    return {key: (plain(value), number(config, key)) for key in KEYS if (value := config.value(key))}


def number(config: Config, key: str) -> int | None:
    try:
        return config.number(key)
    except BadInput:
        return None


PIECES = [
    *("a", "b", "cpus", "x.y_0", "=", " = ", "+=", "\n", ";", "[", "]", ",", "[\n", "\n]", ",\n", " ", "\t"),
    *("0", "1", "0x1f", "017", "08", "0xF", "12cpu", "99999999999999999999", "-1", "1.5"),
    *('"x"', "'y'", '"0-3,^1"', '" 7"', '"-0x10"', '"0x"', '""', "'\"'", '"unclosed', "'", '"', '"""'),
    *(r'"\n\t\\\'\""', r'"\101"', r'"\0101"', r'"\0 12"', r'"\7+1z"', r'"\1"', r'"\x41"', r'"\q"', '"\\'),
    *(
        "# note",
        "# note\n",
        "#",
        "\r\n",
        "\r",
        "\v",
        "\f",
        "True",
        "None",
        "A",
        "_",
        "(",
        ")",
        "{",
        ":",
        "-",
        "%",
        "\\",
    ),
    *("import os", "a = 1\n", 'b = "s"\n', "a = [1, 2]\n", "a += [3]\n", 'a += "z"\n', "cpus = ['0', '1',]\n", "\xe9"),
]


def without_nul_in_strings(data: bytes) -> bool:
    """libxlutil aborts the process at a NUL byte in a string, so such data cannot be tried in it."""
    return b"\0" not in data


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@example("a=1\n#")
@example("a=1 -")
@example("a=[1 '")
@example("a=1\r")
@example("a=1\n\xe9")
def test_pieces_of_configs(xl: Libxlutil, text: str) -> None:
    data = text.encode()
    assert ours(data) == xl.read(data)


BREAKS = st.sampled_from(["", "", " ", "\n", " # note\n"])
ATOMS = st.sampled_from(["1", "'x'", '"0-3,^1"', "0x10"])


def listed(items: list[str], breaks: list[str], comma: str) -> str:
    """A list as a config may have it, broken over lines at all the places where that is allowed."""
    gaps = iter([*breaks, *[""] * 40])
    inner = ",".join(next(gaps) + item + next(gaps) for item in items)
    return "[" + inner + (comma if items else "") + next(gaps) + "]"


LISTS = st.recursive(
    ATOMS,
    lambda inner: st.builds(
        listed, st.lists(inner, max_size=4), st.lists(BREAKS, max_size=9), st.sampled_from(["", ","])
    ),
    max_leaves=8,
)
ASSIGNMENTS = st.builds("".join, st.tuples(st.sampled_from(KEYS), st.sampled_from(["=", " += "]), LISTS))
SEPARATORS = st.sampled_from(["\n", ";", "\n\n", " # note\n"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ASSIGNMENTS, SEPARATORS).map("".join), max_size=3).map("".join))
def test_nested_lists(xl: Libxlutil, text: str) -> None:
    assert ours(text.encode()) == xl.read(text.encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40).filter(without_nul_in_strings))
@example(b'a="\xe9"\n')
@example(b"# \xff\na=1\n")
@example(b"a=1\xe9")
def test_any_bytes(xl: Libxlutil, data: bytes) -> None:
    assert ours(data) == xl.read(data)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="a=+[]\n,; 1x'\"\\07#", max_size=30))
def test_any_text_of_few_letters(xl: Libxlutil, text: str) -> None:
    assert ours(text.encode()) == xl.read(text.encode())


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="\\abfnrtvx01789+- '\"q\t", max_size=12))
def test_strings(xl: Libxlutil, body: str) -> None:
    data = f"a = '{body}'\nb = \"{body}\"\n".encode()
    assert ours(data) == xl.read(data)


@pytest.mark.parametrize("data", [b"# \0\na=1\n", b"a=1\0", b"a=\0 1\n", b"\0", b"a=1\n\0\n"])
def test_nul_bytes_outside_strings(xl: Libxlutil, data: bytes) -> None:
    assert ours(data) == xl.read(data)


def test_nesting(xl: Libxlutil) -> None:
    data = b"a=" + b"[" * 100 + b"]" * 100
    assert ours(data) == xl.read(data)


def test_virtual_nodes_that_are_added(xl: Libxlutil) -> None:
    vnodes = (Vnode(1, 128, frozenset({0, 1, 5}), (10, 16)), Vnode(0, 130, frozenset({2, 3, 4}), (16, 10)))
    config = parse("name = 'g'\nvnuma = [['size=1']]  # mine\n", "g.cfg")
    data = encode(with_value(config, "vnuma", vnuma_value(vnodes), "2 virtual nodes on nodes 0-1").text)
    read = xl.read(data)
    assert read == ours(data)
    assert read is not None
    assert read["vnuma"][0] == [
        [b"pnode=1", b"size=128", b"vcpus=0-1,5", b"vdistances=10,16"],
        [b"pnode=0", b"size=130", b"vcpus=2-4", b"vdistances=16,10"],
    ]
