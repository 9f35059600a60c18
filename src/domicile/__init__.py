"""domicile: a NUMA resource manager for Xen.

It finds out what machine a host is, decides where domains should live on its NUMA nodes, starts them there, and proves
that they are there. Data flows one way: observe (`hosts`), model (`topology`, `state`, `performance`), decide
(`policies`), act and verify (`manager`).
"""

__version__ = "0.1.0"
