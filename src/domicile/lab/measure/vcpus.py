"""Where vCPUs run, sampled from `xl vcpu-list` (Xen 4.17, tools/xl/xl_vcpu.c) while a window is open."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["VcpuSample", "parse_vcpu_list", "ran_on", "sampling_command", "split_samples"]

# a name can have spaces in it: what is fixed is read from behind it
LINE = re.compile(
    r"(?P<name>.+?)\s+(?P<domain>\d+)\s+(?P<vcpu>\d+)\s+(?P<pcpu>\d+|-)\s+(?P<state>\S{3})\s+(?P<time>\d+\.\d)\s"
)
MARK = "--- domicile sample"
LOOP = f'count=$1; while [ "$count" -gt 0 ]; do echo "{MARK}"; xl vcpu-list; count=$((count - 1)); sleep "$2"; done'


@dataclass(frozen=True, slots=True)
class VcpuSample:
    """A vCPU at one moment: `pcpu` is where it runs or ran last, `running` whether it is on it now."""

    domain: int
    vcpu: int
    pcpu: int | None
    running: bool
    time_s: float


def sampling_command(count: int, every_s: int) -> list[str]:
    """A program for Dom0 that prints that many samples, so far apart."""
    return ["sh", "-c", LOOP, "sh", str(count), str(every_s)]


def split_samples(printed: str) -> list[tuple[VcpuSample, ...]]:
    """What the sampling command printed, sample by sample."""
    return [parse_vcpu_list(part) for part in printed.split(MARK)[1:]]


def parse_vcpu_list(printed: str) -> tuple[VcpuSample, ...]:
    """The lines of one `xl vcpu-list`; lines of another form (the heading) are passed over."""
    return tuple(
        VcpuSample(
            domain=int(found["domain"]),
            vcpu=int(found["vcpu"]),
            pcpu=None if found["pcpu"] == "-" else int(found["pcpu"]),
            running="r" in found["state"],
            time_s=float(found["time"]),
        )
        for line in printed.splitlines()
        if (found := LINE.match(line + " "))
    )


def ran_on(samples: Iterable[VcpuSample], node_of_cpu: Mapping[int, int]) -> dict[int, float]:
    """Node to the share (0 to 1) of these samples that were on its pCPUs."""
    counts = Counter(node_of_cpu[sample.pcpu] for sample in samples if sample.pcpu is not None)
    total = sum(counts.values())
    return {node: count / total for node, count in sorted(counts.items())}
