"""From an `xl.cfg` to a `GuestRequest`, and from a placement back into the `xl.cfg`.

Source: Xen 4.17 to 4.23, tools/xl/xl_parse.c (`parse_config_data`) and tools/libs/light/libxl_create.c for what is left
out of the config. A value that `xl` would warn about and pass over (`vcpus = "two"`) is refused: the guest that `xl`
would start is not the one that was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from domicile.errors import BadInput, Refused
from domicile.policies.plan import Placement
from domicile.state.model import DomainType, Vnode
from domicile.state.request import GuestRequest
from domicile.topology.model import Topology
from domicile.xlcfg.affinity import format_cpus, parse_cpus
from domicile.xlcfg.backends import dom0_backends
from domicile.xlcfg.edit import with_value, without_added
from domicile.xlcfg.lexer import shown
from domicile.xlcfg.overhead import Hardware, libxl_need_kib, overhead_mib, says_vcpus, video_mib
from domicile.xlcfg.pci import pci_devices
from domicile.xlcfg.syntax import Config, parse
from domicile.xlcfg.values import Atom, Plain
from domicile.xlcfg.vnuma import virtual_nodes, vnuma_value

__all__ = ["Hardware", "libxl_need_kib", "place_into", "read_as_started", "read_guest", "read_guests"]

MAX_NAME_BYTES = 240
"""A log file's name is made of the domain's (/var/log/xen/qemu-dm-NAME.log), and may have 255 bytes."""
MAX_MEMORY_MIB = 1 << 32
"""4 PiB, what x86 can address."""
DEFAULT_MEMORY_MIB = 32
MAX_VCPUS = {DomainType.PV: 1024, DomainType.PVH: 128, DomainType.HVM: 128}
"""libxl's bitmap of vCPUs (1024) and Xen's HVM_MAX_VCPUS."""
DEFAULT_POOL = "Pool-0"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def read_guest(config: Config, topology: Topology, hardware: Hardware | None = None) -> GuestRequest:
    """What the administrator asks for with a config: what domicile itself added to it is left aside.

    Raises `BadInput` for what `xl` would refuse, what it would pass over with a warning, and what cannot be on this
    machine (a CPU, node or device that is not there).
    """
    return _read(without_added(config), topology, hardware)


def read_as_started(config: Config, topology: Topology, hardware: Hardware | None = None) -> GuestRequest:
    """What a host is told to start with a config: every line of it counts. Raises as `read_guest` does, and for a
    virtual node without a pnode, which `xl` would put on node 0."""
    request = _read(config, topology, hardware)
    for number, vnode in enumerate(request.vnodes):
        if vnode.pnode is None:
            raise config.error("vnuma", f"virtual node {number}: pnode= is missing, and xl takes that for node 0")
    return request


def _read(config: Config, topology: Topology, hardware: Hardware | None) -> GuestRequest:
    name = _name(config)
    kind = _type(config)
    vnodes = virtual_nodes(config, topology)
    if vnodes and kind is DomainType.PV:
        raise config.error("vnuma", "PV guests cannot have a virtual topology")
    if vnodes and kind is DomainType.PVH:
        # init_acpi_config (libxl_x86_acpi.c) asks xc_domain_getvnuma for counts with no room for them, and gives up
        raise config.error("vnuma", "libxl starts no PVH guest with a virtual topology; make it HVM or leave it out")
    vcpus, max_vcpus = _vcpus(config, kind, vnodes, topology)
    memory_mib, max_memory_mib = _memory(config, vnodes)
    devices = pci_devices(config, topology)
    overhead = overhead_mib(config, kind, max_vcpus, memory_mib, max_memory_mib, hardware or Hardware())
    return GuestRequest(
        name=name,
        type=kind,
        vcpus=vcpus,
        max_vcpus=max_vcpus,
        memory_mib=memory_mib,
        max_memory_mib=max_memory_mib,
        overhead_mib=overhead,
        hard_affinity=_affinity(config, "cpus", max_vcpus, topology),
        soft_affinity=_affinity(config, "cpus_soft", max_vcpus, topology),
        devices=devices,
        vnodes=vnodes,
        cpupool=_cpupool(config),
        weight=_bounded(config, "cpu_weight", 1, 65535, 256),
        cap_percent=_bounded(config, "cap", 0, 100 * max_vcpus, 0),
        uuid=_uuid(config),
        source=config.source,
        kernel_arguments=_kernel_arguments(config),
        backends=dom0_backends(config),
        video_mib=video_mib(config, kind) if kind is DomainType.HVM else 0,
        acpi=config.flag("acpi") is not False,
    )


def read_guests(
    configs: Iterable[Config], topology: Topology, hardware: Hardware | None = None
) -> tuple[GuestRequest, ...]:
    """What several configs ask for, in their order. Raises `BadInput` also where two have the same name or device."""
    requests: list[GuestRequest] = []
    names: dict[str, str] = {}
    devices: dict[str, str] = {}
    for config in configs:
        request = read_guest(config, topology, hardware)
        if request.name in names:
            raise config.error("name", f"{shown(request.name)} is the name of the domain in {names[request.name]} too")
        names[request.name] = config.source
        for device in request.devices:
            if device in devices:
                raise config.error("pci", f"{device} goes to the domain in {devices[device]} already")
            devices[device] = config.source
        requests.append(request)
    return tuple(requests)


def _name(config: Config) -> str:
    name = config.string("name")
    if name is None:
        raise BadInput(config.source, "no name= for the domain")
    problem = ""
    if not name:
        problem = "empty"
    elif not name.isprintable() or "/" in name:
        problem = f"{shown(name)} has a '/', a control character or a byte that is no UTF-8"
    elif len(name.encode()) > MAX_NAME_BYTES:
        problem = f"{shown(name)} has more than {MAX_NAME_BYTES} bytes"
    elif name.isascii() and name.isdigit():
        # "xl destroy 5" is the domain with id 5, whatever it is called
        problem = f"{shown(name)}: xl takes a name of digits for a domain's number; add a letter"
    if problem:
        raise config.error("name", problem)
    return name


def _type(config: Config) -> DomainType:
    """`type=` or the older `builder=`; `xl` takes any beginning of the words (the first that fits), and PV for none."""
    given = _prefixed(config, "type", {"hvm": DomainType.HVM, "pv": DomainType.PV, "pvh": DomainType.PVH})
    built = _prefixed(config, "builder", {"hvm": DomainType.HVM, "generic": DomainType.PV})
    if given and built and given is not built:
        raise config.error("builder", f"contradicts type = {given.value}")
    return given or built or DomainType.PV


def _prefixed(config: Config, key: str, words: dict[str, DomainType]) -> DomainType | None:
    text = config.string(key)
    if text is None:
        return None
    for word, kind in words.items():
        if word.startswith(text):
            return kind
    raise config.error(key, f"{shown(text)} is none of {', '.join(words)}")


def _vcpus(config: Config, kind: DomainType, vnodes: tuple[Vnode, ...], topology: Topology) -> tuple[int, int]:
    """vCPUs online at the start, and in all. Without `vcpus=` one is online; without `maxvcpus=` there are as many as
    the virtual topology has, or `vcpus=`."""
    most = MAX_VCPUS[kind]
    vcpus = _bounded(config, "vcpus", 1, most, 1)
    max_vcpus = _bounded(config, "maxvcpus", 0, most, 0)
    in_vnodes = sum(len(vnode.vcpus) for vnode in vnodes)
    if vnodes and max_vcpus and max_vcpus != in_vnodes:
        raise config.error("vnuma", f"{in_vnodes} vCPUs, but maxvcpus is {max_vcpus}")
    if not most >= in_vnodes:
        raise config.error("vnuma", f"{in_vnodes} vCPUs; a {kind.value} guest can have {most}")
    if not max_vcpus and in_vnodes > len(topology.cpus):
        problem = (
            f"{in_vnodes} vCPUs on a machine with {len(topology.cpus)} CPUs; xl wants maxvcpus={in_vnodes} for that"
        )
        raise config.error("vnuma", problem)
    total = max_vcpus or in_vnodes or vcpus
    if total < vcpus:
        raise config.error("vcpus", f"{vcpus}, but {'maxvcpus' if max_vcpus else 'vnuma'} gives {total}")
    return vcpus, total


def _memory(config: Config, vnodes: tuple[Vnode, ...]) -> tuple[int, int]:
    """MiB at the start, and at most."""
    memory = _bounded(config, "memory", 1, MAX_MEMORY_MIB, 0)
    maximum = _bounded(config, "maxmem", 1, MAX_MEMORY_MIB, 0)
    in_vnodes = sum(vnode.memory_mib for vnode in vnodes)
    if vnodes and not 0 < in_vnodes <= MAX_MEMORY_MIB:
        raise config.error("vnuma", f"{in_vnodes} MiB of memory cannot be")
    if vnodes and maximum not in (0, in_vnodes):
        raise config.error("vnuma", f"{in_vnodes} MiB of memory, but maxmem is {maximum}")
    if vnodes and memory not in (0, in_vnodes):
        raise config.error("vnuma", f"{in_vnodes} MiB of memory, but memory is {memory}; they have to be equal")
    if not (in_vnodes or maximum or memory) and ("shadow_memory" not in config or "pci" in config):
        # libxl has a default, but works out the page tables (64 PiB of them) before it sets it
        raise BadInput(config.source, "no memory= for the domain; libxl starts none without")
    maximum = in_vnodes or maximum or memory or DEFAULT_MEMORY_MIB
    memory = memory or maximum
    if maximum < memory:
        raise config.error("maxmem", f"{maximum} MiB, less than memory with {memory} MiB")
    return memory, maximum


def _bounded(config: Config, key: str, least: int, most: int, default: int) -> int:
    number = config.number(key)
    if number is None:
        return default
    if not least <= number <= most:
        raise config.error(key, f"{number} cannot be (it can be from {least} to {most})")
    return number


def _affinity(config: Config, key: str, max_vcpus: int, topology: Topology) -> tuple[frozenset[int], ...] | None:
    """The affinity that a key sets: a string for all vCPUs, or a list with an entry for each. vCPUs that a list does
    not reach can run anywhere; entries that no vCPU is left for are passed over, as in `xl`."""
    value = config.value(key)
    if value is None:
        return None
    if isinstance(value, Atom):
        # an empty cpus_soft is read by xl, and says nothing
        return (_cpus(config, key, value, topology),) * max_vcpus if value.text or key == "cpus" else None
    entries = value.texts(config.source, key)[:max_vcpus]
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    sets = [
        everywhere if not entry.text and key != "cpus" else _cpus(config, key, entry, topology) for entry in entries
    ]
    return tuple(sets + [everywhere] * (max_vcpus - len(sets))) if sets else None


def _cpus(config: Config, key: str, entry: Atom, topology: Topology) -> frozenset[int]:
    """One CPU list, which has to leave a CPU."""
    place = f"line {entry.line}"
    cpus = parse_cpus(entry.text, topology, config.source, place)
    if not cpus:
        raise BadInput(config.source, f"{key}: {shown(entry.text)} leaves no CPU that is online", place)
    return cpus


def _cpupool(config: Config) -> str:
    pool = config.string("pool")
    if pool is None or (pool and not pool.strip("0")):
        return DEFAULT_POOL
    if not pool or not pool.isprintable():
        raise config.error("pool", f"{shown(pool)} is no cpupool's name")
    return pool


def _kernel_arguments(config: Config) -> str:
    """The kernel's command line (`parse_cmdline`): `cmdline=` alone, else `root=` and `extra=`."""
    whole, root, extra = (config.string(key) for key in ("cmdline", "root", "extra"))
    if whole is not None:
        return whole
    return " ".join(([] if root is None else [f"root={root}"]) + ([] if extra is None else [extra]))


def _uuid(config: Config) -> str:
    uuid = config.string("uuid")
    if uuid is not None and not _UUID.fullmatch(uuid):
        raise config.error("uuid", f"{shown(uuid)} is no UUID")
    return (uuid or "").lower()


def place_into(config_text: str, placement: Placement, request: GuestRequest, topology: Topology) -> str:
    """The config with a placement in it: `cpus_soft` and, for a guest with virtual nodes, `vnuma`, in lines marked as
    domicile's; earlier such lines are replaced.

    Nothing is added where the placement leaves scheduling to Xen, or the config sets `cpus_soft` or `vnuma` (with
    pnodes) itself: then it is as the administrator wrote it. A `vnuma` without pnodes is followed by one with them.
    Soft affinity goes beside a `cpus=`, and within it, because libxl's own placement runs beside a `cpus=` string too
    and looks at nodes outside of it (Xen 4.12 and later).

    What `cpus_soft` does (xl 4.17 to 4.23, `parse_vcpu_affinity`; Xen, `domain_update_node_aff`): a string is the soft
    affinity of every vCPU, a list has an entry for each vCPU. Either switches libxl's placement off. libxl sets the
    affinity before it allocates any memory, and Xen computes the domain's node-affinity from it: the nodes of all CPUs
    that are in the soft and the hard affinity of any vCPU. So memory comes from the nodes that the CPUs given here are
    on, the vCPUs' sets taken together, in turns, and from elsewhere only when these are full. That node-affinity stays
    automatic: a later `xl vcpu-pin` changes where new memory comes from.

    `xl` before 4.22 drops affinity where neither `vcpus=`, `maxvcpus=` nor `vnuma=` is set (and still switches libxl's
    placement off), so `vcpus = 1`, which is what it means, is added there.

    Memory comes from a node without CPUs only once the others of the placement are full, which is what a placement
    with such a node has to mean.

    With `vnuma` each vCPU's soft affinity is its pnode's CPUs, which is what libxl would set by itself, but only after
    the memory is there (`libxl__build_post`): with `cpus_soft` the node-affinity is the pnodes from the start, so that
    page tables and video memory, which no virtual node's exact allocation covers, come from there too.

    A placement that is `hard` gets the same as `cpus`.

    Raises `Refused` where soft affinity cannot bring memory to the placement's nodes.
    """
    config = without_added(parse(config_text, request.source))
    loose = any(vnode.pnode is None for vnode in request.vnodes)
    if loose and not placement.vnodes:
        raise Refused(f"{placement.domain}: its virtual nodes were given no pnodes; name them in vnuma=")
    if placement.vnodes and (loose or not request.vnodes):
        config = _with_vnodes(config, placement, request, topology)
    elif request.vnodes:
        return config.text
    if placement.soft_affinity is None or request.soft_affinity is not None:
        return config.text
    everywhere = frozenset(cpu.id for cpu in topology.cpus)
    hard = request.hard_affinity or (everywhere,) * request.max_vcpus
    sets = [soft & allowed for soft, allowed in zip(placement.soft_affinity, hard, strict=True)]
    _require_nodes(sets, placement, topology)
    nodes = sorted(placement.nodes)
    note = f"node{'s' if len(nodes) > 1 else ''} {format_cpus(nodes)}"
    lists: Plain = [format_cpus(cpus) for cpus in sets]
    config = with_value(config, "cpus_soft", format_cpus(sets[0]) if len(set(sets)) == 1 else lists, note)
    if placement.hard and request.hard_affinity is None:
        config = with_value(config, "cpus", format_cpus(sets[0]) if len(set(sets)) == 1 else lists, note)
    if not says_vcpus(config):
        config = with_value(config, "vcpus", 1, "the default; without it xl before 4.22 drops cpus_soft")
    return config.text


def _with_vnodes(config: Config, placement: Placement, request: GuestRequest, topology: Topology) -> Config:
    """The config with the placement's virtual nodes in it, and `maxvcpus` where `xl` wants it beside them."""
    count = len(placement.vnodes)
    note = f"{count} virtual node{'s' * (count != 1)} on node{'s' * (len(placement.nodes) > 1)} "
    config = with_value(config, "vnuma", vnuma_value(placement.vnodes), note + format_cpus(placement.nodes))
    if request.max_vcpus > len(topology.cpus) and not config.number("maxvcpus"):
        note = "xl wants it where there are more vCPUs than pCPUs"
        config = with_value(config, "maxvcpus", request.max_vcpus, note)
    return config


def _require_nodes(sets: list[frozenset[int]], placement: Placement, topology: Topology) -> None:
    """The CPUs are on just the nodes of the placement, and every vCPU has some."""
    node_of = {cpu.id: cpu.node for cpu in topology.cpus}
    reached = {node_of[cpu] for cpus in sets for cpu in cpus}
    beyond = set(placement.nodes) - reached
    full = all(
        placement.reserve_mib.get(node, 0) >= (topology.node(node).free_mib or 0)
        for node in reached
        if node is not None
    )
    overflows = beyond and full and not any(topology.cpus_by_node[node] for node in beyond)
    if not all(sets) or not reached <= set(placement.nodes) or (beyond and not overflows):
        wanted = format_cpus(placement.nodes)
        problem = f"{placement.domain}: its soft affinity would not bring its memory to node(s) {wanted}"
        raise Refused(f"{problem}; choose nodes with CPUs that it may run on")
