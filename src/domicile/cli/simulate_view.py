"""A simulation's result for people: tables."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from domicile.simulator.ballooning import BalloonRecord
from domicile.simulator.cold_pages import PoolRecord
from domicile.simulator.migrations import MigrationRecord
from domicile.simulator.page_sharing import SharingRecord
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
    if any(domain.io_gbs for domain in domains):
        parts.append(_devices([domain for domain in domains if domain.io_gbs]))
    if summary.migrations:
        parts.append(_migrations(summary.migrations))
        refusals = [each for each in summary.migrations if _refused(each)]
        parts += [Text(f"{each.domain} not migrated: {each.outcome}", style="red") for each in refusals]
    if summary.balloons:
        parts.append(_balloons(summary.balloons))
    if summary.sharing:
        parts.append(_sharing(summary.sharing))
    if summary.pool:
        parts.append(_pool(summary.pool))
    if summary.xen:
        xen = summary.xen
        parts.append(
            Text(
                f"Xen's own memory ({xen.policy}): {xen.remote_share:.0%} of its data accesses remote, which took "
                f"{xen.time_share:.2%} of the time that vCPUs ran"
            )
        )
    refused = [domain for domain in summary.domains if domain.refused]
    parts += [Text(f"not started: {domain.refused}", style="red") for domain in refused]
    return Group(*parts)


def _domains(domains: list[DomainSummary]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("domain")
    for heading in ("slowdown", "worst", "CPUs", "remote", "at home", "moves/s", "GB/s"):
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


def _devices(domains: list[DomainSummary]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("device traffic of")
    for heading in ("GB/s", "to another node"):
        table.add_column(heading, justify="right")
    for domain in domains:
        table.add_row(domain.name, f"{domain.io_gbs:.2f}", _figure(domain.io_remote_share, "{:.1%}"))
    return table


def _migrations(migrations: tuple[MigrationRecord, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("migration", "how", "to"):
        table.add_column(heading)
    for heading in ("at s", "took s", "paused s", "rounds", "MiB"):
        table.add_column(heading, justify="right")
    for each in migrations:
        table.add_row(
            each.domain,
            each.how,
            ",".join(map(str, each.nodes)),
            f"{each.asked_s:g}",
            each.outcome if each.duration_s is None and not _refused(each) else _figure(each.duration_s, "{:.2f}"),
            f"{each.pause_s:.3f}",
            str(each.rounds),
            f"{each.sent_mib:.0f}",
        )
    return table


def _refused(migration: MigrationRecord) -> bool:
    return migration.outcome.startswith("refused")


def _balloons(balloons: tuple[BalloonRecord, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("balloon")
    for heading in ("asked at s", "had MiB", "asked MiB", "has MiB", "after s", "refused MiB"):
        table.add_column(heading, justify="right")
    for each in balloons:
        table.add_row(
            each.domain,
            f"{each.asked_s:.1f}",
            str(each.had_mib),
            str(each.asked_mib),
            str(each.has_mib),
            _figure(each.settled_s, "{:.1f}"),
            str(each.short_mib),
        )
    return table


def _sharing(sharing: SharingRecord) -> Text:
    read = sum(domain.shared_mib for domain in sharing.domains)
    away = sum(domain.elsewhere_mib for domain in sharing.domains)
    return Text(
        f"page sharing ({sharing.policy}): {sharing.saved_mib} MiB saved; {read} MiB are read from "
        f"{sharing.frames_mib} MiB, {away} MiB of it on none of the reader's own nodes; {sharing.taken_mib} MiB "
        f"taken again by writes and moves, {sharing.refused_mib} MiB refused"
    )


def _pool(pool: PoolRecord) -> Text:
    nodes = ", ".join(f"{mib} MiB on node {node}" for node, mib in pool.mib_by_node.items()) or "empty"
    return Text(
        f"cold-page pool ({pool.policy}): {nodes}; {pool.put_mib} MiB put, {pool.refused_mib} MiB refused, "
        f"{pool.got_mib} MiB got back, {pool.dropped_mib} MiB dropped, {pool.missed_mib} MiB missed"
    )


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
