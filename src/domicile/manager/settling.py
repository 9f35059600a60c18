"""Everything on a host that a manager left undecided when it died, found out and brought to an end."""

from __future__ import annotations

from domicile.hosts.protocol import Host
from domicile.local.process import is_alive
from domicile.manager.balance import settle_acts
from domicile.manager.journal import Journal
from domicile.manager.migrate import Moved, settle_moves
from domicile.manager.rebalance import settle_memory
from domicile.state.model import Snapshot

__all__ = ["settle_changes"]


def settle_changes(snapshot: Snapshot, host: Host, journal: Journal) -> list[Moved]:
    """Affinity, memory and moves; returns the moves that came to an end. For the host's manager alone, with a snapshot
    that was taken since it is."""
    owners = {plan.id: plan.owner for plan in journal.plans()}
    settle_acts(snapshot, journal, lambda plan: is_alive(owners[plan]))
    settle_memory(snapshot, journal, lambda plan: is_alive(owners[plan]))
    return settle_moves(snapshot, host, journal)
