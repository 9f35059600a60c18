"""A simulated host, `sim:///NAME`: nodes, memory, domains and affinity kept on disk, with Xen's semantics.

What it does as Xen does: where memory goes (node-affinity derived from affinity, silent fallback to other nodes), what
a creation is refused for, what belongs to a connection and ends with it. Time passes only when it is let pass
(`Host.wait`), and then as in `domicile.simulator`. What it leaves out: no guest balloons by itself, and memory divides
over nodes page by page, where Xen takes superpages.
"""

from domicile.hosts.simulated.host import SimulatedHost
from domicile.hosts.simulated.open import create_simulated, open_simulated, remove_simulated

__all__ = ["SimulatedHost", "create_simulated", "open_simulated", "remove_simulated"]
