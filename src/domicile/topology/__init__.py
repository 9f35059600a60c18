"""The machine: its nodes, CPUs, distances, latency, bandwidth and devices; one module per source it is read from."""

from domicile.topology.model import Cpu, Device, DistanceMatrix, MeasuredMatrix, MemoryKind, Node, Topology

__all__ = ["Cpu", "Device", "DistanceMatrix", "MeasuredMatrix", "MemoryKind", "Node", "Topology"]
