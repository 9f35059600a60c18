"""`domicile dom0`: where Dom0 should live, and whether it does."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from domicile.cli.connect import connect_option, default_uri
from domicile.cli.dom0_view import check_json, plan_json, show_plan
from domicile.cli.output import plain, print_json
from domicile.errors import BadInput
from domicile.hosts.open import open_host
from domicile.hosts.protocol import Host
from domicile.manager.dom0 import keep_plan, kept_plan, set_dom0_affinity, verify_dom0
from domicile.manager.journal import Journal
from domicile.policies.dom0.check import Dom0Check
from domicile.policies.dom0.plan import Dom0Wish, plan_dom0
from domicile.policies.dom0.target import Dom0Target

__all__ = ["command"]

SIMULATED = (
    "a simulated host has no firmware and never boots: its node ids stand for proximity domains, and of all this only "
    "the affinity can be had there (--apply)"
)

pxm_option = click.option(
    "--pxm",
    "pxm",
    metavar="NODE=PXM",
    multiple=True,
    help="The ACPI proximity domain of a node, where the host does not tell it (`xl dmesg`: SRAT: Node N PXM M).",
)


@click.group()
def command() -> None:
    """Where Dom0 should live: Xen's boot options, and the affinity until then.

    Dom0's backends move all data between guests and the devices that it drives, so it should be near these: `plan`
    chooses the nodes, the number of vCPUs and the memory, and says why. Xen takes them at boot: put the options where
    `plan` says, reboot, and let `verify` look whether they took effect.

    \b
      domicile dom0 plan --save     # what to write, and why; kept for verify
      (edit /etc/default/grub, update-grub, reboot)
      domicile dom0 verify          # exit status 1 with every difference
    """


@command.command(short_help="boot options and affinity, and why")
@connect_option
@click.option("--nodes", metavar="LIST", help="On these nodes (0,2 or 0-1).  [default: the best]")
@click.option("--vcpus", type=click.IntRange(min=1), help="So many vCPUs.  [default: as booted with, else by rule]")
@click.option(
    "--memory", "memory_mib", type=click.IntRange(min=64), help="So many MiB.  [default: as booted with, else by rule]"
)
@click.option("--by-rule", is_flag=True, help="vCPUs and memory by rule, whatever Xen was booted with.")
@click.option(
    "--device",
    "devices",
    metavar="ADDRESS",
    multiple=True,
    help="Be near this device.  [default: all that Dom0 serves]",
)
@click.option("--strict", is_flag=True, help="Hard affinity: Dom0 runs nowhere else.  [default: soft, `relaxed`]")
@click.option("--pin", is_flag=True, help="dom0_vcpus_pin: each vCPU on one pCPU.")
@pxm_option
@click.option("--save", is_flag=True, help="Keep the plan for `domicile dom0 verify`.")
@click.option("--apply", is_flag=True, help="Set the affinity now, and keep the plan. Memory moves only with the boot.")
@click.option("--json", "as_json", is_flag=True, help="For machines; `dom0 verify --plan FILE` reads it.")
def plan(
    connect: str | None,
    nodes: str | None,
    pxm: tuple[str, ...],
    *,
    save: bool,
    apply: bool,
    as_json: bool,
    **wished: Any,
) -> None:
    """Work out where Dom0 should live, how large, and what to write on Xen's command line.

    Nothing is changed, but with --apply the affinity of the running Dom0.
    """
    wish = Dom0Wish(nodes=None if nodes is None else _node_list(nodes), **wished)
    with open_host(default_uri(connect)) as host:
        snapshot = host.snapshot()
        found = plan_dom0(snapshot, wish, _proximity_domains(host, pxm))
        notes = _about(host)
        if save or apply:
            with Journal.for_host(snapshot.host_id) as journal:
                if apply:
                    set_dom0_affinity(host, journal, found)
                keep_plan(journal, found.target)
    if as_json:
        print_json(plan_json(found, notes, applied=apply, saved=save or apply))
    else:
        show_plan(found, notes, applied=apply, saved=save or apply)


@command.command(short_help="whether Dom0 is as Xen's command line and the plan say")
@connect_option
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Against this plan (`dom0 plan --json`).  [default: the one kept, if any]",
)
@pxm_option
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def verify(connect: str | None, plan_file: Path | None, pxm: tuple[str, ...], *, as_json: bool) -> None:
    """Compare Dom0 with Xen's command line and the plan; exit status 1 with every difference.

    Looked at are the options, the vCPUs, how much memory Dom0 has and on which nodes, and the affinities.
    """
    target = None if plan_file is None else _read_target(plan_file)
    against = "" if plan_file is None else f"the plan in {plan_file}"
    with open_host(default_uri(connect)) as host:
        if target is None:
            with Journal.for_host(host.snapshot().host_id) as journal:
                kept = kept_plan(journal)
            if kept is not None:
                target = kept.target
                against = f"the plan kept on {time.strftime('%Y-%m-%d at %H:%M', time.localtime(kept.kept_at))}"
        found = verify_dom0(host, _proximity_domains(host, pxm), target)
        found = replace(found, notes=(*found.notes, *_about(host)))
    if as_json:
        print_json(check_json(found, against))
    else:
        _show_check(found, against)
    sys.exit(1 if found.differences else 0)


def _about(host: Host) -> list[str]:
    """What a person should know of this kind of host."""
    return [SIMULATED] if host.capabilities().via == "simulated" else []


def _show_check(found: Dom0Check, against: str) -> None:
    for difference in found.differences:
        click.echo(plain(str(difference)))
    for note in found.notes:
        click.echo(plain(f"note: {note}"))
    count = len(found.differences)
    told = f"{count} difference{'s' * (count != 1)}" if count else "all agrees"
    both = f"{against} and Xen's command line" if against else "Xen's command line"
    click.echo(plain(f"Dom0 against {both}: {told}"))


def _proximity_domains(host: Host, given: tuple[str, ...]) -> dict[int, int]:
    """What the host tells, and what the user says of nodes: that comes first."""
    said: dict[int, int] = {}
    for text in given:
        node, _, domain = text.partition("=")
        if not (node.isdecimal() and domain.isdecimal()):
            raise BadInput("--pxm", f"{text!r}; give NODE=PXM, both numbers")
        said[int(node)] = int(domain)
    found = {**host.proximity_domains(), **said}
    if len(set(found.values())) < len(found):
        pairs = ", ".join(f"{node}={domain}" for node, domain in sorted(found.items()))
        raise BadInput("--pxm", f"two nodes have one proximity domain: {pairs}")
    return found


def _node_list(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise BadInput("--nodes", f"{text!r}; give node ids, for example 0,2 or 0-1")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _read_target(path: Path) -> Dom0Target:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Dom0Target)
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise BadInput(str(path), f"is no plan of `domicile dom0 plan --json`: {error}") from error
