"""Claims: free memory that is promised to a domain under construction.

A claim is a number, not a set of pages: whoever would leave less free memory than is promised to others is refused.
Two rules:

- HOST: xen/common/page_alloc.c `domain_set_outstanding_pages`, `domain_adjust_tot_pages` and the check at the top of
  `alloc_heap_pages`, Xen 4.17. A claim is on the host as a whole: it says nothing about nodes, so a domain that holds
  one can still find its nodes taken.
- NODE: as proposed for later Xen (Vallejo and Kaindl, "claim_memory" series on xen-devel, not in 4.22): a domain may
  claim of each node and of the host; every node is checked as the host is. What a domain takes redeems first its claim
  on that node, then that on the host, then those on other nodes, in ascending order.

Under both, pages given back do not renew a claim, and Xen's own needs never count on one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["ClaimRule", "Claims"]


class ClaimRule(StrEnum):
    """Where a claim holds."""

    HOST = "host"
    NODE = "node"


@dataclass(slots=True)
class Claims:
    """Outstanding claims, in pages: `on_node` by node (all zero under HOST), `outstanding` of all domains together."""

    rule: ClaimRule
    on_node: list[int]
    outstanding: int = 0
    _anywhere: dict[str, int] = field(default_factory=dict)
    _nodes: dict[str, dict[int, int]] = field(default_factory=dict)

    @classmethod
    def none(cls, nodes: int, rule: ClaimRule = ClaimRule.HOST) -> Claims:
        """No claims on a host of so many nodes."""
        return cls(rule, [0] * nodes)

    def copy(self) -> Claims:
        """An independent copy."""
        by_node = {domain: nodes.copy() for domain, nodes in self._nodes.items()}
        return Claims(self.rule, self.on_node.copy(), self.outstanding, self._anywhere.copy(), by_node)

    def of(self, domain: str) -> int:
        """What a domain has claimed and not taken yet, wherever."""
        return self._anywhere.get(domain, 0) + sum(self._nodes.get(domain, {}).values())

    def on(self, domain: str, node: int) -> int:
        """What a domain has claimed of one node and not taken yet."""
        return self._nodes.get(domain, {}).get(node, 0)

    def stake(self, domain: str, pages: int, on_nodes: Mapping[int, int]) -> None:
        """A claim on the host and on nodes. The caller has checked that it fits, and that there is none yet."""
        if self.rule is ClaimRule.HOST and any(on_nodes.values()):
            raise ValueError("this Xen has no claims on nodes")
        self._anywhere[domain] = pages
        self._nodes[domain] = {node: claimed for node, claimed in sorted(on_nodes.items()) if claimed}
        self.outstanding += self.of(domain)
        for node, claimed in self._nodes[domain].items():
            self.on_node[node] += claimed

    def cancel(self, domain: str) -> None:
        """Give up what is left of a domain's claims, if it has any."""
        self.outstanding -= self.of(domain)
        for node, claimed in self._nodes.pop(domain, {}).items():
            self.on_node[node] -= claimed
        self._anywhere.pop(domain, None)

    def redeem(self, domain: str, node: int, pages: int) -> None:
        """A domain has taken pages of a node: its claims shrink by as many, as far as they reach."""
        own = self._nodes.get(domain, {})
        for each in (node, None, *own):
            held = self._anywhere.get(domain, 0) if each is None else own.get(each, 0)
            part = min(pages, held)
            if not part:
                continue
            if each is None:
                self._anywhere[domain] -= part
            else:
                own[each] -= part
                self.on_node[each] -= part
            self.outstanding -= part
            pages -= part

    def host_allows(self, domain: str | None, free: int, pages: int) -> int:
        """How many requests of so many pages may follow each other, with so many free on the host.

        `domain` is None for who must not count on a claim.
        """
        own = self.of(domain) if domain is not None else 0
        unclaimed = free - self.outstanding
        if self.rule is ClaimRule.NODE:
            return (unclaimed + own) // pages
        # 4.17 lets a request draw on the claim as a whole or not at all: what the claim does not cover wholly must be
        # found among the unclaimed, and whatever is left of the claim is redeemed by it all the same
        covered, left = divmod(own, pages)
        if unclaimed < pages:
            return covered
        return covered + 1 + (unclaimed - pages + left) // pages

    def node_allows(self, domain: str | None, node: int, free: int, pages: int) -> int:
        """The same for one node with so many free pages."""
        own = self.on(domain, node) if domain is not None else 0
        return (free - self.on_node[node] + own) // pages
