"""What a guest's groups ask of its place, summed up over the peers that are placed, so that candidates are cheap.

See `performance.ties` for what the parts mean. Peers that are not placed yet do not count; the search looks at each
guest again once all are.
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

__all__ = ["Membership", "Ties", "Wish", "memberships", "ties_of"]


@dataclass(frozen=True, slots=True)
class Membership:
    """A guest's part in a group: its peers by name, those that are on the host or about to be."""

    group: Group
    peers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Wish:
    """A wish about peers that are placed: their vCPU shares (P x N), and what it counts for each of them if it is not
    met at all, both sides together.
    """

    kind: GroupKind
    peer_shares: Floats
    each: float


@dataclass(frozen=True, eq=False)
class Ties:
    """`pull` (N): what a whole guest on each node loses by distance to its peers, and they lose as much again."""

    pull: Floats
    wishes: tuple[Wish, ...]

    def own(self, nodes: npt.NDArray[np.intp], vcpus: Floats) -> Floats:
        """What the guest loses by distance to its peers, for K sets of k nodes."""
        return np.asarray((self.pull[nodes] * vcpus).sum(axis=1), dtype=np.float64)

    def missed(self, nodes: npt.NDArray[np.intp], vcpus: Floats) -> Floats:
        """Wishes not met, for K sets of k nodes."""
        total = np.zeros(len(nodes))
        if self.wishes:
            everywhere = np.zeros((len(nodes), len(self.pull)))
            np.put_along_axis(everywhere, nodes, vcpus, axis=1)
            for wish in self.wishes:
                total += wish.each * group_wish(wish.kind, everywhere, wish.peer_shares).sum(axis=1)
        return total

    def by_node(self) -> Floats:
        """Wishes not met and losses of all, for a whole guest on each node (N)."""
        alone = np.arange(len(self.pull))[:, None]
        return 2.0 * self.pull + self.missed(alone, np.ones_like(alone, dtype=np.float64))


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
    pull = np.zeros(len(remote))
    wishes = []
    for membership in groups:
        group, peers = membership.group, len(membership.peers)
        placed = [where[peer] for peer in membership.peers if peer in where]
        if not placed:
            continue
        shares = np.array(placed)
        if group.kind is not GroupKind.APART:
            pull += group_pull(remote, shares, group.weight, peers, assumptions)
        if group.kind is not GroupKind.NEAR:
            wishes.append(Wish(group.kind, shares, 2.0 * assumptions.wish_weight * group.weight / peers))
    return Ties(pull, tuple(wishes))
