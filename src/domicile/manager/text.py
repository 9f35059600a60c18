"""Sets of CPUs and memory by node as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping

from domicile.state.model import PAGES_PER_MIB

__all__ = ["mib_by_node", "pages_by_node"]


def mib_by_node(memory_mib: Mapping[int, int]) -> str:
    """`node 1: 256 MiB, node 2: 128 MiB`."""
    parts = [f"node {node}: {mib} MiB" for node, mib in sorted(memory_mib.items()) if mib]
    return ", ".join(parts) or "no memory"


def pages_by_node(pages: Mapping[int, int]) -> str:
    """The same from pages; a part below half a MiB is given in pages, so that nothing reads as 0 MiB."""
    parts = [
        f"node {node}: {f'{count / PAGES_PER_MIB:.0f} MiB' if count >= PAGES_PER_MIB else f'{count} pages'}"
        for node, count in sorted(pages.items())
        if count
    ]
    return ", ".join(parts) or "no memory"
