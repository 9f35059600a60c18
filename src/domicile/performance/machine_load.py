"""What runs on a machine at a moment, as arrays: the input of `evaluate`.

Shapes: D domains, N nodes (in the order of `Topology.nodes`), P pairs of domains that talk; `...` are leading
dimensions, the same for all fields that have them (or absent): thousands of candidates are one `MachineLoad`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import DEFAULT, Assumptions
from domicile.performance.curves import Floats

__all__ = ["Indices", "MachineLoad"]

Indices = npt.NDArray[np.intp]
"""An array of indices."""


@dataclass(frozen=True, slots=True, eq=False)
class MachineLoad:
    """Domains, how much they run where, and what they do.

    `cpu_share`, ... x D x N: busy vCPUs of a domain on a node: the running time that a scheduler measured, or what is
    wanted there (then it is shared out: see `evaluate`). `memory_share`, ... x D x N: where its accesses go; rows add
    up to 1, or are 0 for a domain without memory. `dma_share`, ... x D x N: where the DMA buffers are that its devices
    use; rows add up to 1.

    By domain, D each: `demand_vcpus`: vCPUs that it wants busy at once. `traffic_gbs`: memory traffic, reads and
    writes, of one busy vCPU while nothing slows it. `read_fraction`: the share of reads in it. `memory_bound`: the
    share of its time that is memory latency, likewise. `cache_mib`: what it would keep in the last-level cache of a
    node that it runs on (0: caches make no difference to it). `weight`: of its vCPUs where pCPUs are short (Xen's
    256). `cap`: most vCPUs busy at once (inf: none). `pool`: its cpupool, as rows of `Machine.pcpus`.
    `device_bound`: what it loses when its device is as much further away as local memory's latency is long.

    `dma_gbs`, D x N: traffic of its devices that are on a node. `peers`, P x 2: domains that talk;
    `messages_per_s`, P: round trips between them, each borne by both.
    """

    cpu_share: Floats
    memory_share: Floats
    dma_share: Floats
    demand_vcpus: Floats
    traffic_gbs: Floats
    read_fraction: Floats
    memory_bound: Floats
    cache_mib: Floats
    weight: Floats
    cap: Floats
    pool: Indices
    device_bound: Floats
    dma_gbs: Floats
    peers: Indices
    messages_per_s: Floats

    @classmethod
    def of(  # noqa: PLR0913 (by name; most are usually left out)
        cls,
        cpu_share: Floats,
        memory_share: Floats,
        *,
        demand_vcpus: Floats | None = None,
        traffic_gbs: Floats | float | None = None,
        read_fraction: Floats | float | None = None,
        memory_bound: Floats | float | None = None,
        cache_mib: Floats | float = 0.0,
        weight: Floats | float = 256.0,
        cap: Floats | float = np.inf,
        pool: Indices | None = None,
        dma_gbs: Floats | None = None,
        dma_share: Floats | None = None,
        device_bound: Floats | float | None = None,
        peers: Indices | None = None,
        messages_per_s: Floats | None = None,
        assumptions: Assumptions = DEFAULT,
    ) -> MachineLoad:
        """A load of which only the shares are known for sure; the rest is as `assumptions` has it.

        `demand_vcpus` is what `cpu_share` adds up to (it must be given where that has leading dimensions and differs),
        DMA buffers are in the domain's own memory, all domains are in the first cpupool, nobody talks.
        """
        cpu, memory = np.asarray(cpu_share, dtype=np.float64), np.asarray(memory_share, dtype=np.float64)
        domains, nodes = cpu.shape[-2:]

        def each(value: Floats | float | None, usual: float) -> Floats:
            return np.broadcast_to(np.asarray(usual if value is None else value, dtype=np.float64), (domains,))

        if demand_vcpus is None:
            demand_vcpus = cpu.sum(axis=-1).reshape(-1, domains).max(axis=0)
        return cls(
            cpu_share=cpu,
            memory_share=memory,
            dma_share=memory if dma_share is None else np.asarray(dma_share, dtype=np.float64),
            demand_vcpus=each(demand_vcpus, 0.0),
            traffic_gbs=each(traffic_gbs, assumptions.traffic_gbs),
            read_fraction=each(read_fraction, assumptions.read_fraction),
            memory_bound=each(memory_bound, assumptions.memory_bound),
            cache_mib=each(cache_mib, 0.0),
            weight=each(weight, 256.0),
            cap=each(cap, np.inf),
            pool=np.zeros(domains, dtype=np.intp) if pool is None else np.asarray(pool, dtype=np.intp),
            device_bound=each(device_bound, assumptions.device_weight),
            dma_gbs=np.zeros((domains, nodes)) if dma_gbs is None else np.asarray(dma_gbs, dtype=np.float64),
            peers=np.zeros((0, 2), dtype=np.intp) if peers is None else np.asarray(peers, dtype=np.intp),
            messages_per_s=np.zeros(0) if messages_per_s is None else np.asarray(messages_per_s, dtype=np.float64),
        )

    @property
    def domains(self) -> int:
        """D."""
        return int(self.cpu_share.shape[-2])

    @property
    def nodes(self) -> int:
        """N."""
        return int(self.cpu_share.shape[-1])
