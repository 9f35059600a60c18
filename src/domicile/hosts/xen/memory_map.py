"""The dump of debug key `u`: how many pages of each domain are on which node.

Source: dump_numa in xen/arch/x86/numa.c (Xen 4.17) and xen/common/numa.c (4.18 and later). A domain's heading is
"Domain 5 (total: N):" up to 4.17 and "d5 (total: N):" later. Output of others can fall between the lines, and the
console ring can have lost the beginning, so a dump counts only if it is complete: from its heading on, with a line for
each node in each domain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["MemoryMap", "parse_memory_map"]

LINE = re.compile(r"^\(XEN\) (?:\[[^\]]*\] )?(.*)$")
HEADING = re.compile(r"'u' pressed -> dumping numa info \(now = (\d+)\)\s*")
NODE = re.compile(r"NODE(\d+) start->")
DOMAINS = "Memory location of each domain:"
DOMAIN = re.compile(r"(?:Domain |d)(\d+) \(total: (\d+)\):\s*")
PAGES = re.compile(r" +Node (\d+): (\d+)\s*")


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """Domain id to node to pages of 4 KiB. `now_ns` is Xen's time of the dump, ns since boot."""

    now_ns: int
    pages: Mapping[int, Mapping[int, int]]


@lru_cache(maxsize=2)
def parse_memory_map(text: str) -> MemoryMap | None:
    """The last complete dump in a console's text; None if there is none.

    A dump is shown for as long as it is the last: the same text is not read twice. Of several complete ones a later one
    with fewer domains loses: somebody else's that is still being written can look complete between two of its domains.
    """
    dumps: list[list[str]] = []
    for raw in text.split("\n"):
        line = LINE.match(raw)
        if line is None:
            continue
        if HEADING.fullmatch(line[1]):
            dumps.append([line[1]])
        elif dumps:
            dumps[-1].append(line[1])
    complete = [dump for dump in map(_parse_dump, dumps) if dump is not None]
    return max(reversed(complete), key=lambda dump: len(dump.pages), default=None)


def _parse_dump(lines: list[str]) -> MemoryMap | None:
    """One dump, its heading first; None if a line is missing."""
    heading = HEADING.fullmatch(lines[0])
    nodes: set[int] = set()
    pages: dict[int, dict[int, int]] = {}
    domain: int | None = None
    begun = False
    for line in lines[1:]:
        if node := NODE.match(line):
            nodes.add(int(node[1]))
        elif line.rstrip() == DOMAINS:
            if begun:
                break
            begun = True
        elif begun and (found := DOMAIN.fullmatch(line)):
            domain = int(found[1])
            if domain in pages:
                return None
            pages[domain] = {}
        elif begun and (row := PAGES.fullmatch(line)):
            if domain is None or int(row[1]) in pages[domain]:
                return None
            pages[domain][int(row[1])] = int(row[2])
    if heading is None or not pages or any(set(found_pages) != nodes for found_pages in pages.values()):
        return None
    return MemoryMap(int(heading[1]), pages)
