"""What a set of nodes costs a newcomer at least: a sum over its nodes, before anything of the set itself is weighed.

In a set of k nodes a node gets some least share of the vCPUs (beside the k - 1 largest others) and of the memory (an
even part, or what it has room for), and no node gets more memory than the others leave over. Every term of the
objective grows with these shares (but for one where Xen's weights differ: `_least_load`), so each node has a least cost
for each k:

- what the newcomer loses there by CPU load, devices and groups, at the node's least share;
- latency and pressure on the way to the memory, were it on the nodes where that is cheapest, each as full as one of k
  nodes can be;
- what everybody else on the node loses.

Left out, and nothing less than 0: links filled by the newcomer itself, wishes of groups, a hard affinity narrower than
the nodes. Where all nodes have as many pCPUs and room for their part, shares are exact, and so is the bound but for the
ways between the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domicile.performance.curves import Floats, crowding, sharing_parts
from domicile.performance.field import Trial
from domicile.policies.placement.subject import Indices, Subject
from domicile.policies.placement.ties import Ties

__all__ = ["Bounds", "bounds_of", "sets_below"]

ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Bounds:
    """A set of k of the n eligible nodes costs at least `base[k - 1]` and `least[k - 1, i]` for each of them, by their
    position among the eligible ones. `base`: n; `least`: n x n."""

    base: Floats
    least: Floats

    def by_size(self) -> Floats:
        """The least that any set of each size costs (n)."""
        return self.base + np.cumsum(np.sort(self.least, axis=1), axis=1).diagonal()


def bounds_of(subject: Subject, trial: Trial, ties: Ties, room_mib: Floats) -> Bounds:
    """The bounds for sets of the subject's eligible nodes; `room_mib` (N) is what is free on each node."""
    nodes, a = subject.eligible, trial.field.assumptions
    newcomer, bound = trial.newcomer, trial.bound
    vcpus = _least_vcpus(subject.spread_weights, subject.spread_pcpus[:, nodes])
    room = room_mib[nodes] / max(subject.need_mib, 1)
    memory = np.minimum(room, 1.0 / np.arange(1, len(nodes) + 1)[:, None])

    before, crowd = trial.before[nodes], trial.crowd[nodes]
    added = newcomer.demand * vcpus
    slower, others = _least_load(trial, nodes, added) if trial.uneven else trial.by_load(nodes, before + added, added)
    others = others - trial.lost[nodes] + trial.weight[nodes] * crowd * added

    loaded = (trial.traffic[nodes] + trial.sends * memory) / trial.peak[nodes]
    more = crowding(loaded, a) - trial.controller[nodes]
    pull = newcomer.device_pull[nodes] / 2.0
    rate = slower + crowd * before + pull + 2.0 * ties.pull[nodes] + bound * _least_ways(trial, nodes, memory, room)
    least_rate = rate.min(axis=1)
    least = (
        vcpus * (rate - least_rate[:, None])
        + others
        + (bound * memory + np.maximum(trial.felt[nodes], 0.0)) * more
        + memory * pull
    )
    split = np.where(np.arange(len(nodes)) > 0, subject.split, 0.0)
    return Bounds(least_rate + trial.everywhere - bound * trial.alone + split, least)


def _least_load(trial: Trial, nodes: Indices, added: Floats) -> tuple[Floats, Floats]:
    """As `Trial.by_load` at the least, where Xen's weights differ and at least `added` vCPUs come to each node.

    What is lost because pCPUs are short goes with the mean weight, which falls where a light newcomer comes to heavy
    domains. Two figures are no more than their product: the loss at the least demand with the mean weight at the least
    or at the whole demand, between which it goes one way; and, with the loss for each vCPU that wants to run, the sum
    of their weights at the least demand. Loss over demand first grows and may then fall (where most of it is that vCPUs
    are displaced), but never falls and grows again: it is least at one of the ends.
    """
    a, cores, pcpus = trial.field.assumptions, trial.cores[nodes], trial.pcpus[nodes]
    before, heavy, own = trial.before[nodes], trial.heavy[nodes], trial.newcomer.weight
    wanted, whole = before + added, before + trial.newcomer.demand
    paired, short = sharing_parts(wanted, cores, pcpus, trial.fullness, a)
    _, most = sharing_parts(whole, cores, pcpus, trial.fullness, a)
    some, all_of_it = np.where(wanted > 0, wanted, 1.0), np.where(whole > 0, whole, 1.0)
    summed = heavy + own * added
    mean = np.minimum(summed / some, (heavy + own * trial.newcomer.demand) / all_of_it)
    lost = np.maximum(mean * short, summed * np.minimum(short / some, most / all_of_it))
    light = np.maximum(trial.light[nodes], 0.0)
    return paired - 1.0 + lost / own, np.maximum(trial.weight[nodes], 0.0) * (paired - 1.0) + light * lost


def _least_vcpus(weights: Floats, pcpus: Floats) -> Floats:
    """The least share of vCPUs on each node in sets of 1 to n nodes (n x n), for G kinds of vCPUs: their shares (G) and
    the pCPUs that each may run on (G x n)."""
    largest = np.cumsum(-np.sort(-pcpus, axis=1), axis=1)
    fewer = np.concatenate([np.zeros((len(pcpus), 1)), largest[:, :-1]], axis=1)
    total = np.minimum(largest[:, :, None], fewer[:, :, None] + pcpus[:, None, :])
    shares = pcpus[:, None, :] / np.maximum(total, 1.0)
    return np.asarray((weights[:, None, None] * shares).sum(axis=0), dtype=np.float64)


def _least_ways(trial: Trial, nodes: Indices, memory: Floats, room: Floats) -> Floats:
    """Latency and pressure above 1 from each node to the memory, at least, for sets of 1 to n nodes (n x n)."""
    count = len(nodes)
    pair = np.ix_(nodes, nodes)
    ways = trial.field.relative[pair] * (1.0 + trial.link[pair] + trial.controller[nodes]) - 1.0
    nearest = np.sort(np.maximum(ways, 0.0), axis=1)
    filled = np.concatenate([np.zeros((count, 1)), np.cumsum(nearest, axis=1)], axis=1)
    # no node holds more than what the least of the others leave over
    smallest = np.concatenate([[0.0], np.cumsum(np.sort(memory, axis=1), axis=1).diagonal(-1)])
    most = np.maximum(np.minimum(1.0 - smallest, room.max()), 1.0 / np.arange(1, count + 1))
    full = np.floor(1.0 / most + ROUNDING).astype(np.intp)
    rest = np.maximum(1.0 - full * most, 0.0)
    return np.asarray((filled[:, full] * most + nearest[:, np.minimum(full, count - 1)] * rest).T, dtype=np.float64)


def sets_below(least: Floats, size: int, limit: float, most: int) -> tuple[Indices, Floats] | None:
    """All sets of `size` positions whose `least` add up to no more than the limit: K x size and their sums, K; None
    where there would be more than `most`.

    Positions are taken in the order of their cost; the next ones in line bound what is still to come.
    """
    order = np.argsort(least, kind="stable")
    cost = least[order]
    prefix = np.concatenate([[0.0], np.cumsum(cost)])
    last, total = np.array([-1]), np.zeros(1)
    members = np.empty((1, 0), dtype=np.intp)
    for left in range(size - 1, -1, -1):
        # one more at position j, and after it at least the next `left` ones
        ends = prefix[left + 1 :] - prefix[: len(prefix) - left - 1]
        stop = np.searchsorted(ends, limit - total, side="right")
        many = np.maximum(stop - last - 1, 0)
        rows = np.repeat(np.arange(len(last)), many)
        if len(rows) > most:
            return None
        last = last[rows] + 1 + np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
        members = np.concatenate([members[rows], last[:, None]], axis=1)
        total = total[rows] + cost[last]
    return order[members], total
