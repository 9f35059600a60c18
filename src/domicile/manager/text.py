"""Sets of CPUs and memory by node as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from domicile.state.model import PAGES_PER_MIB

__all__ = ["ids", "mib_by_node", "pages_by_node"]


def ids(numbers: Iterable[int]) -> str:
    """`0-3,5`, as `xl` writes it; `none` for nothing."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in runs) or "none"


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
