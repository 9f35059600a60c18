"""Dom0's plan and its verification, for people and for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import click
from rich.padding import Padding
from rich.text import Text

from domicile.cli.output import console, plain
from domicile.policies.dom0.check import Dom0Check
from domicile.policies.dom0.nodes import Candidate
from domicile.policies.dom0.plan import Dom0Plan, VcpuAffinity
from domicile.policies.dom0.words import named
from domicile.topology.ids import format_ids

__all__ = ["check_json", "grub_line", "pin_commands", "plan_json", "show_plan"]

GRUB_ADDS = ("placeholder",)
"""Words that GRUB's own script puts on the line (grub 2.06, util/grub.d/20_linux_xen.in)."""


def show_plan(plan: Dom0Plan, notes: Sequence[str], *, applied: bool, saved: bool) -> None:
    """Print it. What is to be copied stands on lines of its own, which are not broken."""
    out = console()
    target = plan.target
    line = Text(plan.domain, style="bold") + Text(f"  {named(target.nodes)}", style="bold green")
    size = f"  {target.vcpus} vCPU{'s' * (target.vcpus > 1)}  {target.memory_mib} MiB"
    out.print(line + Text(size, style="not bold"))
    for reason in plan.reasons:
        out.print(Padding(Text(plain(reason)), (0, 0, 0, 2)))
    out.print()
    out.print(Text("Xen's command line", style="bold"))
    was = " ".join([*plan.old.others, *plan.old.dom0.words])
    click.echo(plain(f"  now   {was or '(not told)'}"))
    click.echo(plain(f"  then  {plan.new}"))
    out.print()
    out.print(
        Text("At the next boot", style="bold"),
        Text(" (Debian): this line in /etc/default/grub, and none of its words in GRUB_CMDLINE_XEN; then update-grub"),
        sep="",
    )
    click.echo(plain(f"  {grub_line(plan)}"))
    _show_affinity(plan, applied=applied)
    for note in (*plan.warnings, *notes):
        out.print(Text("note: ", style="yellow") + Text(plain(note)))
    if not saved:
        out.print(Text("--save keeps this plan for `domicile dom0 verify`", style="bright_black"))


def _show_affinity(plan: Dom0Plan, *, applied: bool) -> None:
    commands = pin_commands(plan.domain, plan.affinity, plan.vcpus_now)
    out = console()
    out.print()
    if not commands:
        out.print(Text("Until then", style="bold"), Text(": nothing to do, the affinity is so already"), sep="")
        return
    how = "set now" if applied else "by hand, or with --apply"
    out.print(Text("Until then", style="bold"), Text(f" ({how})"), sep="")
    for text in commands:
        click.echo(plain(f"  {text}"))


def grub_line(plan: Dom0Plan) -> str:
    """The line for /etc/default/grub, which is shell: quoted as it needs it."""
    text = " ".join(word for word in str(plan.new).split(" ") if word not in GRUB_ADDS)
    for character in '\\"$`':
        text = text.replace(character, f"\\{character}")
    return f'GRUB_CMDLINE_XEN_DEFAULT="{text}"'


def pin_commands(domain: str, changes: Sequence[VcpuAffinity], vcpus_now: int) -> list[str]:
    """The same with `xl vcpu-pin`: one command where all vCPUs get the same."""
    sets = {(change.hard, change.soft) for change in changes}
    everyone = len(sets) == 1 and len(changes) == vcpus_now
    return [
        f"xl vcpu-pin {domain} {'all' if everyone else change.vcpu} {_set(change.hard)} {_set(change.soft)}"
        for change in (changes[:1] if everyone else changes)
    ]


def plan_json(plan: Dom0Plan, notes: Sequence[str], *, applied: bool, saved: bool) -> dict[str, Any]:
    """A plan as JSON; `domicile dom0 verify --plan` needs nodes, vcpus, memory_mib, strict, pin and options of it."""
    target = plan.target
    return {
        "domain": plan.domain,
        "nodes": list(target.nodes),
        "proximity_domains": {str(node): domain for node, domain in plan.proximity_domains.items()},
        "vcpus": target.vcpus,
        "memory_mib": target.memory_mib,
        "strict": target.strict,
        "pin": target.pin,
        "options": list(target.options),
        "command_line": {
            "now": " ".join([*plan.old.others, *plan.old.dom0.words]),
            "then": str(plan.new),
            "grub": grub_line(plan),
        },
        "affinity": [
            {"vcpu": change.vcpu, "hard": _ids(change.hard), "soft": _ids(change.soft)} for change in plan.affinity
        ],
        "affinity_commands": pin_commands(plan.domain, plan.affinity, plan.vcpus_now),
        "devices": [{"address": one.address, "name": one.name, "node": one.node} for one in plan.served.devices],
        "chosen": _candidate(plan.chosen),
        "alternatives": [_candidate(one) for one in plan.alternatives],
        "reasons": list(plan.reasons),
        "notes": [*plan.warnings, *notes],
        "applied": applied,
        "saved": saved,
    }


def check_json(found: Dom0Check, against: str) -> dict[str, Any]:
    """A verification as JSON."""
    return {
        "against": against or None,
        "differences": [
            {"kind": one.kind.value, "intended": one.intended, "seen": one.seen} for one in found.differences
        ],
        "notes": list(found.notes),
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    latency, objective = one.device_latency_ns, one.objective
    return {
        "nodes": list(one.nodes),
        "device_latency_ns": None if latency is None else round(latency, 1),
        "objective": None if objective is None or math.isinf(objective) else round(objective, 4),
    }


def _ids(cpus: frozenset[int] | None) -> list[int] | None:
    return None if cpus is None else sorted(cpus)


def _set(cpus: frozenset[int] | None) -> str:
    """As `xl vcpu-pin` takes it: `-` leaves it as it is."""
    return "-" if cpus is None else format_ids(cpus)
