"""What a guest's groups ask of its place, summed up over the peers that are placed, so that candidates are cheap to
weigh.

Every part is linear in the guest's vCPU shares, or a sum over the nodes of its set; see `performance.ties` for what
they mean. Peers that are not placed yet do not count; the search looks at each guest again once all are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from domicile.performance.assumptions import Assumptions
from domicile.performance.curves import Floats
from domicile.performance.ties import group_pull, group_wish
from domicile.state.request import Group, GroupKind

__all__ = ["Membership", "Ties", "memberships", "ties_of"]


@dataclass(frozen=True, slots=True)
class Membership:
    """A guest's part in a group: its peers by name, those that are on the host or about to be."""

    group: Group
    peers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Ties:
    """`pull` (N): what a whole guest on each node loses, and its peers lose as much again. `wish_share` (N) and
    `wish_node` (N): what of the wishes not met goes with its vCPU share on a node, and with its being there at all;
    `wish`: what does not depend on its place."""

    pull: Floats
    wish_share: Floats
    wish_node: Floats
    wish: float

    def own(self, nodes: npt.NDArray[np.intp], vcpus: Floats) -> Floats:
        """What the guest loses by distance to its peers, for K sets of k nodes."""
        return np.asarray((self.pull[nodes] * vcpus).sum(axis=1), dtype=np.float64)

    def missed(self, nodes: npt.NDArray[np.intp], vcpus: Floats) -> Floats:
        """Wishes not met, for K sets of k nodes."""
        there = self.wish_share[nodes] * vcpus + self.wish_node[nodes] * (vcpus > 0)
        # rounding must not leave a wish that is met with a trace of a cost, or of a gain
        return np.asarray(np.maximum(self.wish + there.sum(axis=1), 0.0), dtype=np.float64)


def memberships(name: str, groups: Sequence[Group], known: frozenset[str]) -> tuple[Membership, ...]:
    """The groups that a guest is in and has a peer in; a name that nobody has is left out."""
    found = []
    for group in groups:
        peers = tuple(sorted((set(group.domains) & known) - {name}))
        if name in group.domains and peers:
            found.append(Membership(group, peers))
    return tuple(found)


def ties_of(
    groups: Sequence[Membership], where: Mapping[str, Floats], remote: Floats, assumptions: Assumptions
) -> Ties:
    """Sum up a guest's groups. `where` gives the vCPU shares (N) of those that are placed."""
    nodes = len(remote)
    pull, share, node, constant = np.zeros(nodes), np.zeros(nodes), np.zeros(nodes), 0.0
    for membership in groups:
        group, peers = membership.group, len(membership.peers)
        placed = [where[peer] for peer in membership.peers if peer in where]
        if not placed:
            continue
        shares = np.array(placed)
        if group.kind is not GroupKind.APART:
            pull += group_pull(remote, shares, group.weight, peers, assumptions)
        if group.kind is GroupKind.NEAR:
            continue
        each = assumptions.wish_weight * group.weight / peers
        sign = 1.0 if group.kind is GroupKind.APART else -1.0
        share += sign * each * (shares > 0).sum(axis=0)
        node += sign * each * shares.sum(axis=0)
        constant += group_wish(group.kind, np.zeros(nodes), shares, group.weight, peers, assumptions)
    return Ties(pull, share, node, constant)
