"""Frames, offsets and the plug-in's pages of an emulated machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.lab.measure.memory import MemoryLayout

LAYOUTS = st.lists(st.sampled_from([0, 128, 512, 2048, 3072]), min_size=1, max_size=6).map(
    lambda sizes: MemoryLayout(tuple(sizes))
)


def frames_of(layout: MemoryLayout) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Some frames of every stretch of memory: both ends of each node, and of what is below the hole."""
    offsets = {edge for start in (*layout.starts, layout.low_pages) for edge in (start - 1, start)}
    inside = np.array(sorted(offset for offset in offsets if 0 <= offset < layout.total_pages), dtype=np.int64)
    return np.where(inside < layout.low_pages, inside, inside - layout.low_pages + (4096 << 8))


def test_the_four_nodes_of_the_facts() -> None:
    """Nodes of 2 GiB showed up at 0, 4, 8 and 12 GiB (seen with QEMU 7.2)."""
    layout = MemoryLayout((2048,) * 4)
    assert [layout.plugin_range(node).start >> 18 for node in range(4)] == [0, 4, 8, 12]
    assert [len(layout.plugin_range(node)) >> 18 for node in range(4)] == [2, 2, 2, 2]
    assert layout.plugin_pages == 14 << 18
    gib = 1 << 18
    assert layout.node_of_frame([0, 2 * gib - 1, 4 * gib, 6 * gib, 10 * gib - 1]).tolist() == [0, 0, 1, 2, 3]


def test_a_small_machine_has_no_hole() -> None:
    layout = MemoryLayout((256, 384))
    assert layout.node_of_frame([0xFFFF, 0x10000, 640 * 256 - 1]).tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="0x100000 is no memory"):
        layout.node_of_frame([4096 << 8])


@given(LAYOUTS)
def test_every_frame_is_on_the_node_that_its_page_is_in(layout: MemoryLayout) -> None:
    frames = frames_of(layout)
    pages = layout.plugin_page_of_frame(frames)
    assert len(set(pages.tolist())) == len(frames)
    for page, node in zip(pages.tolist(), layout.node_of_frame(frames).tolist(), strict=True):
        assert page in layout.plugin_range(node)
        assert page < layout.plugin_pages


@given(LAYOUTS, st.integers(-(2**40), 2**40))
def test_what_is_no_memory_is_refused(layout: MemoryLayout, frame: int) -> None:
    low, high = layout.low_pages, layout.total_pages - layout.low_pages
    if 0 <= frame < low or 4096 << 8 <= frame < (4096 << 8) + high:
        assert layout.node_of_frame([frame]).size == 1
    else:
        with pytest.raises(ValueError, match="is no memory"):
            layout.plugin_page_of_frame([frame])
