"""The virtual topology that an `xl.cfg` sets: `vnuma = [["pnode=0", "size=512", "vcpus=0-1", "vdistances=10,20"], …]`.

Source: Xen 4.17 to 4.23, tools/xl/xl_parse.c (`parse_vnuma_config`), tools/libs/light/libxl_vnuma.c
(`libxl__vnuma_config_check`) and docs/man/xl.cfg.5, which says that all four options have to be there. `xl` takes
nonsense for some of what is refused here (a bad range of vCPUs is garbage to it). A missing pnode is node 0 to `xl`; to
domicile it is the wish that a good one be found, and no config goes to a host without.
"""

from __future__ import annotations

from collections.abc import Iterable

from domicile.errors import BadInput
from domicile.state.model import Vnode
from domicile.topology.ids import format_ids
from domicile.topology.model import Topology
from domicile.xlcfg.affinity import format_cpus, parse_range
from domicile.xlcfg.lexer import shown
from domicile.xlcfg.syntax import Config
from domicile.xlcfg.values import Items, Plain

__all__ = ["virtual_nodes", "vnuma_value"]

OPTIONS = ("size", "vcpus", "vdistances")
MAX_VCPU = 8191
_MAX_DIGITS = 12


def virtual_nodes(config: Config, topology: Topology) -> tuple[Vnode, ...]:
    """The virtual nodes, empty if the config sets none; the vCPUs are 0 to n-1, each on one virtual node. Where one
    names no pnode, it is None.

    Raises `BadInput` for what `xl` or libxl refuses, what is missing, and a physical node that is not there.
    """
    entries = config.items("vnuma")
    if entries is None or not entries.values:
        return ()
    vnodes = []
    for index, entry in enumerate(entries.values):
        if not isinstance(entry, Items):
            raise BadInput(config.source, f"vnuma: virtual node {index} is no list", f"line {entry.line}")
        vnodes.append(_vnode(index, entry, len(entries.values), config.source, topology))
    _require_each_vcpu_once(vnodes, config)
    return tuple(vnodes)


class _Options:
    """The options of one virtual node, and how errors name them."""

    def __init__(self, index: int, entry: Items, source: str) -> None:
        self.source = source
        self.place = f"line {entry.line}"
        self.who = f"vnuma: virtual node {index}"
        self.texts: dict[str, str] = {}
        for option in entry.texts(source, "vnuma"):
            name, equals, text = (part.strip() for part in option.text.partition("="))
            if not equals or not name or not text:
                raise self.error(f"{shown(option.text)} is not of the form option=value")
            if name in self.texts:
                raise self.error(f"{shown(name)} is there twice")
            self.texts[name] = text
        missing = [name for name in OPTIONS if name not in self.texts]
        if missing:
            raise self.error(f"{missing[0]}= is missing (xl needs {', '.join(('pnode', *OPTIONS))})")

    def error(self, problem: str) -> BadInput:
        return BadInput(self.source, f"{self.who}: {problem}", self.place)

    def number(self, name: str, text: str | None = None) -> int:
        given = self.texts[name] if text is None else text.strip()
        if not (given.isascii() and given.isdigit() and len(given) <= _MAX_DIGITS):
            raise self.error(f"{name}={shown(given)} is no number")
        return int(given)


def _vnode(index: int, entry: Items, count: int, source: str, topology: Topology) -> Vnode:
    options = _Options(index, entry, source)
    pnode = options.number("pnode") if "pnode" in options.texts else None
    if pnode is not None and pnode not in topology.node_index:
        raise options.error(f"node {pnode} is not there (the machine has nodes {format_cpus(topology.node_ids)})")
    distances = tuple(options.number("vdistances", text) for text in options.texts["vdistances"].split(","))
    if len(distances) != count:
        raise options.error(f"{len(distances)} vdistances for {count} virtual nodes")
    if min(distances) < distances[index]:
        raise options.error("another virtual node is nearer than itself")
    return Vnode(pnode, options.number("size"), _vcpus(options), distances)


def vnuma_value(vnodes: Iterable[Vnode]) -> Plain:
    """What `vnuma =` is set to for these virtual nodes. ValueError where one has no pnode, which `xl` takes for 0."""
    entries: list[Plain] = []
    for vnode in vnodes:
        if vnode.pnode is None:
            raise ValueError("a virtual node without a pnode cannot be written")
        entries.append(
            [
                f"pnode={vnode.pnode}",
                f"size={vnode.memory_mib}",
                f"vcpus={format_ids(vnode.vcpus)}",
                f"vdistances={','.join(map(str, vnode.distances))}",
            ]
        )
    return entries


def _vcpus(options: _Options) -> frozenset[int]:
    found: set[int] = set()
    for text in options.texts["vcpus"].split(","):
        ends = parse_range(text)
        if ends is None or ends[1] > MAX_VCPU:
            raise options.error(f"vcpus={shown(text)} is no vCPU or range of vCPUs")
        more = range(ends[0], ends[1] + 1)
        twice = found.intersection(more)
        if twice:
            # xl counts it twice, and then finds a vCPU missing
            raise options.error(f"vCPU {min(twice)} is there twice")
        found.update(more)
    return frozenset(found)


def _require_each_vcpu_once(vnodes: list[Vnode], config: Config) -> None:
    seen: set[int] = set()
    for index, vnode in enumerate(vnodes):
        if seen & vnode.vcpus:
            raise config.error("vnuma", f"vCPU {min(seen & vnode.vcpus)} is there twice (virtual node {index})")
        seen |= vnode.vcpus
    missing = set(range(max(seen) + 1)) - seen
    if missing:
        raise config.error("vnuma", f"vCPU {min(missing)} is on no virtual node")
