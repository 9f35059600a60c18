"""Which node's memory the vCPUs of a domain reach: accesses by the node of the vCPU and of the memory.

Of a domain's vCPUs the share v[a] is on node a, of its memory the share m[b] on node b. A guest that does not see its
nodes spreads its accesses over all its memory: the pair (a, b) has v[a] * m[b] of them. One with virtual nodes keeps
the share `own` of what its vCPUs on a node do in its memory there, since a virtual node has vCPUs and memory on the
same node, and spreads the rest; where it has vCPUs and no memory, nothing can be kept, and all is spread:

    kept[a] = own * v[a] where m[a] > 0, else 0        loose[a] = v[a] - kept[a]
    weight[a, b] = loose[a] * m[b], and kept[a] more where a is b

How much memory a node has does not matter, only that it has some: small virtual nodes are as good to their own vCPUs as
large ones. The simulator has the same rule (`simulator.memory.pages`). Weights add up to what v does, if m adds up to
1, whatever `own` is; with an `own` of 0 they are exactly v[a] * m[b].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from domicile.performance.curves import Floats

__all__ = ["Accesses", "least_ways"]


class Accesses(NamedTuple):
    """Accesses of domains, `loose`, `memory` and `kept` as above: ... x N each, N nodes (or those of a set). `kept` is
    None where nobody keeps any, and then `loose` is where the vCPUs are."""

    loose: Floats
    memory: Floats
    kept: Floats | None

    @classmethod
    def of(cls, vcpus: Floats, memory: Floats, own_share: Floats | float | None) -> Accesses:
        """The accesses of these shares (... x N each). `own_share`: 0 to 1 for each domain (... without N; one for all;
        None: 0)."""
        if own_share is None or not (own_share.any() if isinstance(own_share, np.ndarray) else own_share):
            return cls(vcpus, memory, None)
        kept = np.asarray(np.asarray(own_share)[..., None] * np.where(memory > 0, vcpus, 0.0), dtype=np.float64)
        return cls(vcpus - kept, memory, kept)

    def scaled(self, each: Floats | float) -> Accesses:
        """So many times as many: `each` for each domain (... without N), or for all."""
        times = np.asarray(each)[..., None]
        return Accesses(times * self.loose, self.memory, None if self.kept is None else times * self.kept)

    @property
    def weights(self) -> Floats:
        """By pair of nodes, ... x N x N."""
        return _with_diagonal(self.loose[..., :, None] * self.memory[..., None, :], self.kept)

    @property
    def arriving(self) -> Floats:
        """By node of the memory, ... x N."""
        found = self.loose.sum(axis=-1, keepdims=True) * self.memory
        return np.asarray(found if self.kept is None else found + self.kept, dtype=np.float64)

    def mean(self, *ways: Floats) -> Floats:
        """The sum over pairs of weight times all of these (... x N x N each): ... x D, of ... x D x N."""
        found = np.einsum(f"...dn,...dm{',...nm' * len(ways)}->...d", self.loose, self.memory, *ways)
        if self.kept is not None:
            diagonals = [each.diagonal(axis1=-2, axis2=-1) for each in ways]
            found = found + np.einsum(f"...dn{',...n' * len(ways)}->...d", self.kept, *diagonals)
        return np.asarray(found, dtype=np.float64)

    @property
    def together(self) -> Floats:
        """The weights of all domains together: ... x N x N, of ... x D x N."""
        found = np.einsum("...dn,...dm->...nm", self.loose, self.memory)
        return _with_diagonal(found, None if self.kept is None else self.kept.sum(axis=-2))


def least_ways(relative: Floats, own_share: float) -> Floats:
    """Ways (N x N) for a lower bound: wherever the memory is, spread accesses cost no more by these than a guest's that
    keeps this share do by the `relative` ones. What is kept goes the local way, or is spread where nothing can be kept.
    """
    if own_share == 0.0:
        return relative
    return (1.0 - own_share) * relative + own_share * np.minimum(relative, relative.diagonal()[:, None])


def _with_diagonal(pairs: Floats, more: Floats | None) -> Floats:
    """Pairs of nodes (... x N x N, changed in place) with so much more on the diagonal (... x N)."""
    if more is not None:
        nodes = np.arange(pairs.shape[-1])
        pairs[..., nodes, nodes] += more
    return np.asarray(pairs, dtype=np.float64)
