"""The memory half of the simulator: where every page is, who may take which, and what moving them costs.

`layout` (addresses), `buddy` (one node's free lists), `heap` (Xen's allocator: nodes, claims) and `populate` (libxc's
builder) decide where memory goes; `boot` takes what Xen, Dom0 and its devices take. `pages` says what share of a
domain's accesses goes to which node. `balloon`, `migration`, `sharing` and `coldpool` change it over time: each has
`step(now_s, dt_s)`, which an engine calls once an epoch, and gives plain records back. No clock, no I/O, no chance.
A page is 4 KiB; a node is an index into `Topology.nodes`.
"""
