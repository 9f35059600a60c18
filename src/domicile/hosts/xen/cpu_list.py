"""Sets of CPUs and nodes as `xl` prints and takes them: `all`, `none`, `0-3,8`.

Source: print_bitmap in tools/xl/xl_utils.c, parse_range in tools/xl/xl_parse.c (Xen 4.17). Before 4.5 a full set is
"any cpu".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

__all__ = ["LIST", "format_list", "is_list", "parse_list"]

LIST = r"all|none|any cpu|[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*"
"""A regular expression for what `parse_list` reads."""

LARGEST = 65535


def parse_list(text: str, everything: Iterable[int]) -> frozenset[int]:
    """The ids in a list; "all" is `everything`. Raises `ValueError` for what is no such list."""
    if text in ("all", "any cpu"):
        return everything if isinstance(everything, frozenset) else frozenset(everything)
    if text == "none":
        return frozenset()
    return _ids(text)


@lru_cache(maxsize=8192)
def is_list(text: str) -> bool:
    """Whether this has the form of a list."""
    return re.fullmatch(LIST, text, re.ASCII) is not None


@lru_cache(maxsize=8192)
def _ids(text: str) -> frozenset[int]:
    """A list that names its ids: the vCPUs of a host share a handful, and equal ones are one and the same object."""
    if not is_list(text):
        raise ValueError(f"{text!r} is no list of ids")
    ids: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not low <= high <= LARGEST:
            raise ValueError(f"{part!r} is no range of ids")
        ids.update(range(low, high + 1))
    return frozenset(ids)


def format_list(ids: Iterable[int]) -> str:
    """The shortest list of these ids; "none" if there are none."""
    # in a run of consecutive ids, the difference of id and position stays the same
    runs = groupby(enumerate(sorted(set(ids))), key=lambda pair: pair[1] - pair[0])
    spans = [[number for _, number in run] for _, run in runs]
    return ",".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans) or "none"
