"""How many vCPUs and how much memory a Dom0 gets: what its administrator says, else what XenServer and XCP-ng give.

| who | memory | vCPUs |
|---|---|---|
| XenServer, XCP-ng: xcp/dom0.py of xenserver/python-libs 037d60148f (`default_memory`, `default_vcpus`); "Memory usage" in XenServer 8's documentation | 1 GiB + 5 % of the host's, in steps of 16 MiB, at most 8 GiB; not below 1 GiB | as many as pCPUs, at most 16; 8 below 4 GiB of memory, 4 below 2 GiB |
| SUSE, support document 000016299 | a fixed amount, without ballooning; 2 GiB in general | more than one |
| Xen 4.17, docs/misc/xen-command-line.pandoc | all but a sixteenth, at most 128 MiB less than all; with dom0_mem= toolstacks must not balloon Dom0 | as many as pCPUs |

The first is the only rule that goes by the host's size, so it is taken, within what the chosen nodes have: no more
vCPUs than pCPUs there, and no more than half of their memory, so that guests can be there too (the half is an
assumption).

A `dom0_mem` or `dom0_max_vcpus` that is on the command line already, as a number, is what the administrator found right
for what runs in Dom0: it stays, unless the rule is asked for.
"""  # noqa: E501 - a table

from __future__ import annotations

from dataclasses import dataclass

from domicile.policies.dom0.command_line import Dom0Options, MemoryAmount, MemoryOption

__all__ = ["LEAST_MEMORY_MIB", "LEAST_VCPUS", "NODE_SHARE", "Given", "Size", "given_size", "memory_on", "usual_vcpus"]

LEAST_MEMORY_MIB = 1024
"""XenServer: "do not reduce the dom0 memory below 1 GiB"."""
LEAST_VCPUS = 2
"""SUSE: "do not restrict dom0 to a single VCPU"."""
MOST_MEMORY_MIB = 8192
MOST_VCPUS = 16
MEMORY_STEP_MIB = 16
XEN_OWN_MIB = 256
"""What XenServer takes Xen itself to have, which is missing in the memory that Xen tells."""
NODE_SHARE = 2
"""Dom0 gets at most this part of its nodes' memory: half."""
MIB = 1 << 20
ASKED, BOOTED = "as asked", "as on the command line now"
MEMORY_RULE = "by rule (1 GiB + 5 % of the host's, at most half of its nodes' and 8 GiB)"


@dataclass(frozen=True, slots=True)
class Size:
    """vCPUs and memory, each with where it comes from, and the memory as Xen is told."""

    vcpus: int
    vcpus_why: str
    memory_mib: int
    memory_why: str
    memory: MemoryOption


@dataclass(frozen=True, slots=True)
class Given:
    """What is said already, None where the rule decides. `vcpus_needed`: so many pCPUs must be there for it."""

    vcpus: int | None = None
    vcpus_needed: bool = False
    memory_mib: int | None = None
    memory: MemoryOption | None = None
    vcpus_why: str = ""
    memory_why: str = ""

    def on(self, *, nodes_cpus: int, nodes_mib: int, host_cpus: int, host_mib: int) -> Size:
        """Dom0's size on nodes with so many pCPUs and so much memory, of a host with so much."""
        memory_mib = memory_on(nodes_mib, host_mib) if self.memory_mib is None else self.memory_mib
        wanted = usual_vcpus(host_cpus, memory_mib) if self.vcpus is None else self.vcpus
        vcpus_why = self.vcpus_why or f"by rule for {host_cpus} pCPUs and {memory_mib} MiB"
        if wanted > nodes_cpus:
            vcpus_why = f"as many as there are pCPUs ({wanted} {vcpus_why})"
        amount = MemoryAmount(memory_mib * MIB)
        memory = MemoryOption(amount, most=amount) if self.memory is None else self.memory
        return Size(min(wanted, nodes_cpus), vcpus_why, memory_mib, self.memory_why or MEMORY_RULE, memory)


def given_size(
    vcpus: int | None, memory_mib: int | None, booted: Dom0Options, host_mib: int, *, by_rule: bool
) -> Given:
    """What is asked for, else what Xen was booted with (not `by_rule`), as far as that is a number that can be."""
    given = Given(vcpus, vcpus is not None, memory_mib, None, ASKED if vcpus else "", ASKED if memory_mib else "")
    if by_rule:
        return given
    bounds = booted.max_vcpus
    if vcpus is None and bounds is not None and bounds.least == bounds.most:
        given = Given(bounds.least, False, memory_mib, None, BOOTED, given.memory_why)
    fixed = booted.memory.fixed_mib if booted.memory else None
    if memory_mib is None and booted.memory and fixed and fixed <= host_mib // NODE_SHARE:
        amount = booted.memory.amount or booted.memory.most
        memory = MemoryOption(amount, booted.memory.least, booted.memory.most or amount)
        given = Given(given.vcpus, given.vcpus_needed, fixed, memory, given.vcpus_why, BOOTED)
    return given


def usual_memory_mib(host_mib: int) -> int:
    """Dom0's memory on a host of this size."""
    share = (host_mib + XEN_OWN_MIB) // 20
    return min(LEAST_MEMORY_MIB + share // MEMORY_STEP_MIB * MEMORY_STEP_MIB, MOST_MEMORY_MIB)


def memory_on(nodes_mib: int, host_mib: int) -> int:
    """Dom0's memory on nodes of this size: what is usual, but at most half of theirs."""
    half = nodes_mib // NODE_SHARE
    return min(usual_memory_mib(host_mib), half // MEMORY_STEP_MIB * MEMORY_STEP_MIB or half)


def usual_vcpus(host_pcpus: int, memory_mib: int) -> int:
    """Dom0's vCPUs on a host with so many pCPUs, when it has so much memory."""
    most = 4 if memory_mib < 2048 else 8 if memory_mib < 4096 else MOST_VCPUS
    return max(min(host_pcpus, most), 1)
