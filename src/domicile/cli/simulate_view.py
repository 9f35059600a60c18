"""A simulation's result for people: tables."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from domicile.simulator.totals import DomainSummary, NodeSummary, Summary

__all__ = ["summary_view"]

MOST_ROWS = 40


def summary_view(summary: Summary, title: str) -> RenderableType:
    """Domains, the slowest first where there are many, and nodes."""
    parts: list[RenderableType] = [Text(title, style="bold")]
    domains = list(summary.domains)
    left_out = 0
    if len(domains) > MOST_ROWS:
        domains.sort(key=lambda domain: -(domain.slowdown or 0.0))
        left_out = len(domains) - MOST_ROWS
    parts.append(_domains(domains[:MOST_ROWS]))
    if left_out:
        parts.append(Text(f"{left_out} more that are less slow; --json has all"))
    parts.append(_nodes(summary.nodes))
    refused = [domain for domain in summary.domains if domain.refused]
    parts += [Text(f"not started: {domain.refused}", style="red") for domain in refused]
    return Group(*parts)


def _domains(domains: list[DomainSummary]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("domain")
    for heading in ("slowdown", "worst", "CPUs", "remote", "at home", "node moves/s", "GB/s"):
        table.add_column(heading, justify="right")
    for domain in domains:
        table.add_row(
            domain.name,
            _figure(domain.slowdown, "{:.2f}"),
            _figure(domain.worst_slowdown, "{:.2f}"),
            f"{domain.cpus:.2f}",
            _figure(domain.remote_share, "{:.1%}"),
            _figure(domain.home_share, "{:.1%}"),
            f"{domain.node_moves_per_s:.2f}",
            f"{domain.bandwidth_gbs:.2f}",
        )
    return table


def _nodes(nodes: tuple[NodeSummary, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("node", "pCPUs busy", "memory busy", "free MiB"):
        table.add_column(heading, justify="right")
    for node in nodes:
        table.add_row(str(node.node), f"{node.busy:.1%}", f"{node.controller:.1%}", str(node.free_mib))
    return table


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
