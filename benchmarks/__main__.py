"""All benchmarks, or those that are named, one after the other: first what they come to, beside what was asked for,
then all figures."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from benchmarks import afresh, evaluate, manager, memory, nova, placement, pool, simulator

PARTS = (simulator, evaluate, memory, placement, afresh, pool, manager, nova)

said = Console(stderr=True)
summary = Table("what", "measured", "wanted", title="domicile bench")
tables = []
parts = {part.__name__.rpartition(".")[2]: part for part in PARTS}
if not set(sys.argv[1:]) <= set(parts):
    sys.exit(f"usage: python -m benchmarks [{' | '.join(parts)}]...")
for part in [parts[name] for name in sys.argv[1:]] or PARTS:
    said.print(f"measuring: {part.TITLE}")
    found = part.measure()
    tables += found.tables
    for row in found.rows:
        summary.add_row(*row)
shown = Console()
for table in (summary, *tables):
    shown.print(table)
