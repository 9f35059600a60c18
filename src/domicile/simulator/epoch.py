"""What happened in one epoch of a simulation, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Epoch"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """What happened from `start_s` to `end_s`, by domain (D) and node (N), in the order of the simulation's.

    `active`: domains that were there. `ran_s` (D x N): vCPU time on each node; `waited_s`, `wanted_s`, `work_s` (D):
    vCPU time waited, asked for, and done in units of the best speed. `remote` (D): share of memory accesses that left
    the node; `home` (D): share of vCPU time on the nodes that soft (else hard) affinity, else memory, names; `moves`
    and `node_moves` (D): of vCPUs. `bandwidth_gbs` and `stretch` (D). `busy` (N): share of pCPU time used; `controller`
    (N): memory utilisation; `free_mib` (N). `io_gbs` and `io_remote` (D): what a domain's device moves, and the share
    of it between two nodes.
    """

    start_s: float
    end_s: float
    active: npt.NDArray[np.bool_]
    ran_s: Floats
    waited_s: Floats
    wanted_s: Floats
    work_s: Floats
    remote: Floats
    home: Floats
    moves: Ints
    node_moves: Ints
    bandwidth_gbs: Floats
    stretch: Floats
    busy: Floats
    controller: Floats
    free_mib: Floats
    io_gbs: Floats
    io_remote: Floats
