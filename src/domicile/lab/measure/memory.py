"""Where an emulated machine's memory is: by node, by machine frame, and by the address that the plug-in is told.

Three ways of counting the same pages:
- the *frame* number, as Xen counts (4 KiB pages of the physical address space, with the hole below 4 GiB);
- the *offset*, without holes: node by node in the order of the machine's nodes, as QEMU backs them;
- the *plug-in's page*: `qemu_plugin_hwaddr_phys_addr` of QEMU 7.2 (plugins/api.c) gives block offset + place in the
  block + the block's place in the machine's memory. A node's block begins at the sum of the nodes before it in both
  counts, so the page is the offset plus, once more, what lies before the node.

The hole is that of QEMU's q35 machine (hw/i386/pc_q35.c, 7.2): a machine of 2816 MiB or more has 2 GiB below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

__all__ = ["PAGES_PER_MIB", "MemoryLayout"]

PAGES_PER_MIB = 256
ABOVE_HOLE_MIB = 4096
LOW_MIB_OF_LARGE = 2048
LOW_MIB_AT_MOST = 2816


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """Memory of a q35 machine: `node_mib[i]` MiB on its i-th node."""

    node_mib: tuple[int, ...]

    @property
    def total_pages(self) -> int:
        """Pages of the whole machine."""
        return sum(self.node_mib) * PAGES_PER_MIB

    @property
    def starts(self) -> tuple[int, ...]:
        """The offset, in pages, at which each node's memory begins, and last the offset behind all of it."""
        return tuple(accumulate((mib * PAGES_PER_MIB for mib in self.node_mib), initial=0))

    @property
    def low_pages(self) -> int:
        """Pages below the hole."""
        total = sum(self.node_mib)
        return (LOW_MIB_OF_LARGE if total >= LOW_MIB_AT_MOST else total) * PAGES_PER_MIB

    @property
    def plugin_pages(self) -> int:
        """One more than the highest page number that the plug-in can be told."""
        filled = [node for node, mib in enumerate(self.node_mib) if mib]
        return self.starts[filled[-1]] + self.total_pages if filled else 0

    def plugin_range(self, node: int) -> range:
        """The plug-in's page numbers for the node with this index."""
        before, behind = self.starts[node], self.starts[node + 1]
        return range(2 * before, before + behind)

    def plugin_page_of_frame(self, frames: NDArray[np.int64] | Sequence[int]) -> NDArray[np.int64]:
        """Machine frames to the plug-in's page numbers; ValueError for a frame that is no memory."""
        frame = np.asarray(frames, dtype=np.int64)
        above = frame >= ABOVE_HOLE_MIB * PAGES_PER_MIB
        offset = np.where(above, frame - ABOVE_HOLE_MIB * PAGES_PER_MIB + self.low_pages, frame)
        bad = (offset < 0) | (offset >= self.total_pages) | (~above & (frame >= self.low_pages))
        if bad.any():
            raise ValueError(f"frame {int(frame[bad][0]):#x} is no memory of this machine")
        starts = np.array(self.starts)
        page: NDArray[np.int64] = offset + starts[np.searchsorted(starts, offset, side="right") - 1]
        return page

    def node_of_frame(self, frames: NDArray[np.int64] | Sequence[int]) -> NDArray[np.int64]:
        """Machine frames to the indices of their nodes; ValueError for a frame that is no memory."""
        page = self.plugin_page_of_frame(frames)
        node: NDArray[np.int64] = np.searchsorted([2 * start for start in self.starts[:-1]], page, side="right") - 1
        return node
