"""Virtual NUMA topologies: who gets one, what it is, where its virtual nodes live, and how one that is there is kept.

- `policy.with_vnuma`: any placement policy, with virtual topologies.
- `design.topology_of`: the best topology of so many virtual nodes for a guest; `design.width_of`: who needs one.
- `keep.keep`: a topology that is there already, on nodes that can bear it.
- `distances.virtual_distances`: what the guest is told of the machine's distances.
- `assign.assign`: virtual nodes to pnodes at the least cost; `refine.refined`: the same by the whole objective.
- `widths.best_width`: how many virtual nodes; `beside.topologies_beside`: what else is shown.

What Xen can do is in the docstrings of these modules, with its source: HVM only, `maxmem` equal to `memory`, at most 32
virtual nodes, each one's memory from exactly its pnode, no save and no migration.
"""

from domicile.policies.vnuma.design import topology_of, width_of
from domicile.policies.vnuma.distances import virtual_distances
from domicile.policies.vnuma.keep import keep
from domicile.policies.vnuma.policy import with_vnuma

__all__ = ["keep", "topology_of", "virtual_distances", "width_of", "with_vnuma"]
