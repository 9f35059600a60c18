"""On which nodes domains have their memory: the dump of debug key `u`, made no oftener than it may be."""

import re
import time
from typing import Any, Dict, List, Optional, Sequence

from domicile.hosts.xen.dom0.agent.console import Console
from domicile.hosts.xen.dom0.agent.shelf import Shelf
from domicile.hosts.xen.dom0.files import read_text, readable, write

WRITING_S = 5.0
MAP_MIN_AGE_S = 5.0
MAP_RATION = 20.0
"""A dump of debug key `u` stops allocation for the domain it walks: at most 1/20 of the time goes into dumps."""
DUMP_HEADER = re.compile(rb"^.*'u' pressed -> dumping numa info \(now = (\d+)\)", re.MULTILINE)


class MemoryMap:
    """The dump that is on the shelf, for all agents, and the next one."""

    def __init__(self, console: Console, shelf: Shelf) -> None:
        self.console = console
        self.shelf = shelf

    def get(self, wanted: str, notes: List[str]) -> Optional[Dict[str, Any]]:
        """The last dump of debug key `u`, a new one if that is wanted and fits the ration."""
        if wanted == "none":
            return self.last_dump()
        try:
            with self.shelf.locked("memory-map.lock"):
                last = self.last_dump()
                if wanted == "recent" and last and last["age_s"] < max(MAP_MIN_AGE_S, MAP_RATION * last["duration_s"]):
                    return last
                self.dump()
                return self.last_dump()
        except Exception as problem:  # of the binding's own kind as well
            notes.append("no memory map: %s" % problem)
            return None

    def last_dump(self) -> Optional[Dict[str, Any]]:
        """The dump that is on file."""
        header, _, text = read_text(self.shelf.path("memory-map")).partition("\n")
        match = re.match(r"([\d.]+) ([\d.]+)\Z", header)
        if not match:
            return None
        return {"age_s": uptime() - float(match.group(1)), "duration_s": float(match.group(2)), "text": text}

    def dump(self) -> None:
        """Press the key, and file what comes after a header that is younger than all that were there before."""
        earlier = [int(found.group(1)) for found in DUMP_HEADER.finditer(self.console.text())]
        taken, begun = uptime(), time.monotonic()
        self.console.press("u")
        duration = time.monotonic() - begun
        text, before = self.dumped(earlier), None
        # on a busy host Xen may still be writing: another pCPU does, while ours goes on
        deadline = time.monotonic() + WRITING_S
        while self.console.written_behind and (not text or text != before) and time.monotonic() < deadline:
            self.shelf.wait(0.05)
            text, before = self.dumped(earlier), text
        write(self.shelf.path("memory-map"), "%.3f %.3f\n%s" % (taken, duration, text))

    def dumped(self, earlier: Sequence[int]) -> str:
        """What is on the console from the first dump on that is younger than these."""
        console = self.console.text()
        ours = [found for found in DUMP_HEADER.finditer(console) if int(found.group(1)) > max(earlier, default=-1)]
        return readable(console[ours[0].start() :]) if ours else ""


def uptime() -> float:
    """Seconds since Dom0 booted: no clock that somebody may set."""
    return float(read_text("/proc/uptime").split()[0])
