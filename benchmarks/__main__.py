"""All benchmarks, one after the other: first what they come to, beside what was asked for, then all figures."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks import afresh, evaluate, manager, memory, nova, placement, pool, simulator

said = Console(stderr=True)
summary = Table("what", "measured", "wanted", title="domicile bench")
tables = []
for part in (simulator, evaluate, memory, placement, afresh, pool, manager, nova):
    said.print(f"measuring: {part.TITLE}")
    found = part.measure()
    tables += found.tables
    for row in found.rows:
        summary.add_row(*row)
shown = Console()
for table in (summary, *tables):
    shown.print(table)
