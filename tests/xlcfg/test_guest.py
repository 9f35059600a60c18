"""From configs to requests: defaults, forms and refusals as a real `xl` 4.17 has them, and its memory to the KiB."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.state.model import DomainType, Vnode
from domicile.state.request import GuestRequest
from domicile.topology.check import checked
from domicile.topology.model import Cpu, Device, Node, Topology
from domicile.xlcfg.guest import Hardware, libxl_need_kib, read_as_started, read_guest, read_guests
from domicile.xlcfg.syntax import parse

ALL = frozenset(range(8))
HOST = checked(
    source="test",
    nodes=[Node(node, 4096) for node in range(4)],
    cpus=[Cpu(cpu, cpu, cpu // 2, cpu // 2) for cpu in range(8)],
)
WITH_DEVICES = checked(
    source="test",
    nodes=HOST.nodes,
    cpus=HOST.cpus,
    devices=[Device(address, 1) for address in ("0000:01:00.0", "0000:01:00.1", "0000:41:1f.7", "10000:02:00.0")],
)


def guest(settings: str, topology: Topology = HOST, hardware: Hardware | None = None) -> GuestRequest:
    """The request of a config that has a name and memory beside the settings, unless they say otherwise."""
    text = f"name = 'g'\nmemory = 256\n{settings}\n"
    return read_guest(parse(text, "g.cfg"), topology, hardware)


def refusal(settings: str, topology: Topology = HOST) -> str:
    with pytest.raises(BadInput) as caught:
        guest(settings, topology)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_least_config() -> None:
    assert guest("") == GuestRequest(
        name="g",
        type=DomainType.PV,
        vcpus=1,
        max_vcpus=1,
        memory_mib=256,
        max_memory_mib=256,
        overhead_mib=2,
        source="g.cfg",
    )


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ("", ""),
        ("extra = 'quiet busy=2'", "quiet busy=2"),
        ("root = '/dev/xvda1'", "root=/dev/xvda1"),
        ("root = '/dev/xvda1'; extra = 'ro quiet'", "root=/dev/xvda1 ro quiet"),
        ("cmdline = 'workload=web'; root = '/dev/xvda1'; extra = 'busy=2'", "workload=web"),
        ("extra = 'quiet'\nextra += ' busy=1'", "quiet busy=1"),
    ],
)
def test_the_kernels_command_line(settings: str, arguments: str) -> None:
    assert guest(settings).kernel_arguments == arguments


def test_a_full_config() -> None:
    request = guest(
        "type = 'hvm'; vcpus = 2; maxvcpus = 3; maxmem = '0x200'; pool = 'Pool-numa'; cpu_weight = 512; cap = 150\n"
        "uuid = '3852F5F8-058A-498D-A6CB-042B735A8FA9'; cpus = 'nodes:0-1'; cpus_soft = ['0', '1-2']"
    )
    assert request == GuestRequest(
        name="g",
        type=DomainType.HVM,
        vcpus=2,
        max_vcpus=3,
        memory_mib=256,
        max_memory_mib=512,
        overhead_mib=request.overhead_mib,
        hard_affinity=(frozenset({0, 1, 2, 3}),) * 3,
        soft_affinity=(frozenset({0}), frozenset({1, 2}), ALL),
        cpupool="Pool-numa",
        weight=512,
        cap_percent=150,
        uuid="3852f5f8-058a-498d-a6cb-042b735a8fa9",
        source="g.cfg",
        video_mib=8,
    )


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ("", "pv"),
        ("kernel = '/boot/vmlinuz'", "pv"),
        ("type = 'pv'", "pv"),
        ("type = 'pvh'", "pvh"),
        ("type = 'hvm'", "hvm"),
        ("builder = 'hvm'", "hvm"),
        ("builder = 'generic'", "pv"),
        ("type = 'hvm'; builder = 'hvm'", "hvm"),
        # xl compares only as far as the value goes
        ("type = 'h'", "hvm"),
        ("type = 'p'", "pv"),
        ("type = ''", "hvm"),
    ],
)
def test_types(settings: str, kind: str) -> None:
    assert guest(settings).type == kind


@pytest.mark.parametrize(
    ("settings", "vcpus"),
    [
        ("", (1, 1)),
        ("vcpus = 4", (4, 4)),
        ("maxvcpus = 4", (1, 4)),
        ("vcpus = 2; maxvcpus = 4", (2, 4)),
        ("vcpus = 2; maxvcpus = 0", (2, 2)),
        ("vcpus = 128; type = 'pvh'", (128, 128)),
    ],
)
def test_vcpus(settings: str, vcpus: tuple[int, int]) -> None:
    request = guest(settings)
    assert (request.vcpus, request.max_vcpus) == vcpus


@pytest.mark.parametrize(
    ("settings", "memory"),
    [
        ("", (256, 256)),
        ("maxmem = 1024", (256, 1024)),
        ("memory = 512; memory += ''", None),
        ("memory = '0x100'", (256, 256)),
    ],
)
def test_memory(settings: str, memory: tuple[int, int] | None) -> None:
    if memory is None:
        assert "cannot be used with a number" in refusal(settings)
    else:
        request = guest(settings)
        assert (request.memory_mib, request.max_memory_mib) == memory


def test_memory_is_maxmem_where_only_that_is_set() -> None:
    request = read_guest(parse("name = 'g'; maxmem = 300", "g.cfg"), HOST)
    assert (request.memory_mib, request.max_memory_mib) == (300, 300)


@pytest.mark.parametrize(
    ("settings", "hard", "soft"),
    [
        ("cpus = 'all'", [ALL, ALL], None),
        ("cpus = 3", [{3}, {3}], None),
        ("cpus = [0, 1]", [{0}, {1}], None),
        ("cpus = ['0']", [{0}, ALL], None),
        ("cpus = ['0', '1', 'nonsense']", [{0}, {1}], None),
        ("cpus = []", None, None),
        ("cpus_soft = 'node:3,^7'", None, [{6}, {6}]),
        ("cpus_soft = ''", None, None),
        ("cpus_soft = ['', '1']", None, [ALL, {1}]),
        ("cpus = '0-3'; cpus_soft = ['4', 'node:0']", [{0, 1, 2, 3}] * 2, [{4}, {0, 1}]),
    ],
)
def test_affinity(settings: str, hard: list[set[int]] | None, soft: list[set[int]] | None) -> None:
    request = guest(f"vcpus = 2\n{settings}")
    assert request.hard_affinity == (None if hard is None else tuple(map(frozenset, hard)))
    assert request.soft_affinity == (None if soft is None else tuple(map(frozenset, soft)))


def test_what_domicile_added_is_no_wish_of_the_administrator() -> None:
    added = "# added by domicile: node 1 (cpus_soft)\ncpus_soft = '2-3'"
    assert guest(f"vcpus = 2\n{added}") == guest("vcpus = 2")


@pytest.mark.parametrize(
    ("settings", "devices"),
    [
        ("pci = []", []),
        ("pci = ['01:00.0']", ["0000:01:00.0"]),
        ("pci = ['0000:41:1F.7@1f,msitranslate=0,seize=1,']", ["0000:41:1f.7"]),
        ("pci = ['1:0.1', 'permissive=1,bdf=41:1f.7,vslot=5,rdm_policy=strict']", ["0000:01:00.1", "0000:41:1f.7"]),
        ("pci = ['00000001:00.1']", ["0000:01:00.1"]),
        ("pci = ['01:00.*']", ["0000:01:00.0", "0000:01:00.1"]),
        ("pci = ['bdf=ff:00.0,bdf=01:00.1']", ["0000:01:00.1"]),
    ],
)
def test_devices(settings: str, devices: list[str]) -> None:
    assert list(guest(f"type = 'hvm'\n{settings}", WITH_DEVICES).devices) == devices


def test_devices_of_an_unknown_machine_are_taken_as_given() -> None:
    assert guest("pci = ['ff:00.0']").devices == ("0000:ff:00.0",)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("pci = '01:00.0'", "pci: a single value where a list should be"),
        ("pci = [['01:00.0']]", "pci: a list where a string should be"),
        ("pci = ['']", "pci: no PCI address in ''"),
        ("pci = ['01:00']", "pci: '01:00' is no PCI address"),
        ("pci = ['01:00.8']", "pci: '01:00.8' is no PCI address"),
        ("pci = ['01:20.0']", "pci: '01:20.0' is no PCI address"),
        ("pci = ['10000:01:00.0']", "pci: '10000:01:00.0' is no PCI address"),
        ("pci = ['0x01:00.0']", "is no PCI address"),
        ("pci = [' 01:00.0']", "is no PCI address"),
        ("pci = ['01:00.0@20']", "is no PCI address"),
        ("pci = ['01:00.0 ']", "is no PCI address"),
        ("pci = ['01:00.0,']; pci += ['1:0.0']", "pci: 0000:01:00.0 is there twice"),
        ("pci = ['01:00.*', '01:00.1']", "pci: 0000:01:00.1 is there twice"),
        ("pci = ['01:00.0,,seize=1']", "pci: '' is no option"),
        ("pci = ['01:00.0,size=1']", "pci: 'size=1' is no option"),
        ("pci = ['01:00.0,seize']", "pci: 'seize' is no option"),
        ("pci = ['vslot=5']", "pci: no PCI address in 'vslot=5'"),
        ("pci = ['bdf=x']", "pci: 'bdf=x': no PCI address"),
        ("pci = ['bdf=01:00.0,vslot=99']", "pci: 'vslot=99': no PCI slot"),
        ("pci = ['name=gpu']", "pci: 'name=gpu': give the device's address"),
        ("pci = ['02:00.0']", "pci: the machine has no device 0000:02:00.0"),
        ("pci = ['02:00.*']", "pci: the machine has no device 0000:02:00.*"),
        ("pci = ['01:00.0']; maxmem = 512", "no devices through to an HVM guest with maxmem above memory"),
        ("pci = ['01:00.0']; type = 'pvh'", "pci: libxl passes no devices through to PVH guests"),
        ("pci = ['01:00.0']; passthrough = 'disabled'", "pci: devices, and passthrough is disabled"),
    ],
)
def test_devices_that_are_refused(settings: str, problem: str) -> None:
    assert problem in refusal(f"type = 'hvm'\n{settings}", WITH_DEVICES)


def test_all_functions_of_an_unknown_machine() -> None:
    assert "it is not known which functions" in refusal("pci = ['01:00.*']")


VNUMA = """\
type = 'hvm'; memory = 600
vnuma = [ ["pnode = 0", "size=300", "vcpus=0-1,3", "vdistances=10, 20"],
          ["pnode=3", "size=300", "vcpus=2", "vdistances=20,10"] ]
"""


def test_a_virtual_topology() -> None:
    request = guest(VNUMA)
    assert request.vnodes == (
        Vnode(0, 300, frozenset({0, 1, 3}), (10, 20)),
        Vnode(3, 300, frozenset({2}), (20, 10)),
    )
    assert (request.vcpus, request.max_vcpus, request.max_memory_mib) == (1, 4, 600)


def test_a_virtual_topology_whose_pnodes_are_open() -> None:
    text = VNUMA.replace('"pnode=3", ', "")
    assert [vnode.pnode for vnode in guest(text).vnodes] == [0, None]
    with pytest.raises(BadInput, match="virtual node 1: pnode= is missing, and xl takes that for node 0"):
        read_as_started(parse(f"name = 'g'\n{text}", "g.cfg"), HOST)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("pnode=3", "pnode=4", "line 5: vnuma: virtual node 1: node 4 is not there (the machine has nodes 0-3)"),
        ("pnode=3", "pnode=-1", "pnode='-1' is no number"),
        ('"size=300", ', "", "virtual node 0: size= is missing (xl needs pnode, size, vcpus, vdistances)"),
        ("size=300", "size=big", "size='big' is no number"),
        ("vcpus=2", "vcpus=2-", "vcpus='2-' is no vCPU"),
        ("vcpus=2", "vcpus=2-99999999", "is no vCPU"),
        ("vcpus=2", "vcpus=2-3", "line 4: vnuma: vCPU 3 is there twice"),
        ("vcpus=2", "vcpus=2,1-2", "vnuma: virtual node 1: vCPU 2 is there twice"),
        ("vcpus=2", "vcpus=4", "vCPU 2 is on no virtual node"),
        ("vcpus=2", "vcpus=2,4-8", "9 vCPUs on a machine with 8 CPUs; xl wants maxvcpus=9"),
        ("vcpus=2", "vcpus=2,4-127,128", "129 vCPUs; a hvm guest can have 128"),
        ("vdistances=20,10", "vdistances=10", "1 vdistances for 2 virtual nodes"),
        ("vdistances=20,10", "vdistances=9,10", "another virtual node is nearer than itself"),
        ("size=300", "size", "'size' is not of the form option=value"),
        ("size=300", "pnode=1", "'pnode' is there twice"),
        ("size=300", "size=400", "800 MiB of memory, but memory is 600"),
        ("memory = 600", "maxmem = 601", "600 MiB of memory, but maxmem is 601"),
        ("memory = 600", "maxvcpus = 3", "4 vCPUs, but maxvcpus is 3"),
        ("memory = 600", "vcpus = 5", "vcpus: 5, but vnuma gives 4"),
        ("'hvm'", "'pv'", "PV guests cannot have a virtual topology"),
        ("'hvm'", "'pvh'", "vnuma: libxl starts no PVH guest with a virtual topology"),
        ("vnuma = [", "vnuma = [ 'pnode=0', ", "virtual node 0 is no list"),
        ("vnuma = [", "vnuma = [ [['pnode=0']], ", "a list where a string should be"),
        ("vnuma = [ ", "vnuma = 1 #", "a single value where a list should be"),
    ],
)
def test_virtual_topologies_that_are_refused(old: str, new: str, problem: str) -> None:
    text = VNUMA.replace(old, new)
    if problem.startswith("a single"):
        text = "type = 'hvm'\nvnuma = 'pnode=0'\n"
    assert problem in refusal(text)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("name = ''", "line 3: name: empty"),
        ("name = ['x']", "line 3: name: a list where a single value should be"),
        ("name = 'a/b'", "name: 'a/b' has a '/'"),
        ("name = 'a\\nb'", r"name: 'a\nb' has a '/', a control character"),
        ("name = 'a\udce4'", r"name: 'a\udce4' has a '/', a control character or a byte that is no UTF-8"),
        ("name = '" + "x" * 241 + "'", "has more than 240 bytes"),
        ("name = '42'", "xl takes a name of digits for a domain's number"),
        ("type = 'xen'", "type: 'xen' is none of hvm, pv, pvh"),
        ("type = 'hvm64'", "type: 'hvm64' is none of"),
        ("builder = 'linux'", "builder: 'linux' is none of hvm, generic"),
        ("type = 'pvh'; builder = 'hvm'", "builder: contradicts type = pvh"),
        ("vcpus = 0", "vcpus: 0 cannot be (it can be from 1 to 1024)"),
        ("vcpus = '-1'", "vcpus: -1 cannot be"),
        ("vcpus = 'two'", "vcpus: 'two' is no number"),
        ("vcpus = 129; type = 'hvm'", "vcpus: 129 cannot be (it can be from 1 to 128)"),
        ("vcpus = 4; maxvcpus = 2", "vcpus: 4, but maxvcpus gives 2"),
        ("vcpus = [1]", "vcpus: a list where a single value should be"),
        ("memory = 0", "memory: 0 cannot be"),
        ("memory = '-256'", "memory: -256 cannot be"),
        ("memory = '256M'", "memory: '256M' is no number"),
        ("maxmem = 255", "maxmem: 255 MiB, less than memory with 256 MiB"),
        ("memory = 4294967297", "memory: 4294967297 cannot be"),
        ("cpus = ''", "cpus: '' leaves no CPU that is online"),
        ("cpus = '1,^1'", "cpus: '1,^1' leaves no CPU"),
        ("cpus_soft = '^1'", "cpus_soft: '^1' leaves no CPU"),
        ("cpus = 'none'", "'none' is no part of a CPU list"),
        ("cpus = '8'", "line 3: CPU 8 is not there (the machine has CPUs 0-7)"),
        ("vcpus = 2; cpus_soft = [\n'1',\n'node:4']", "line 5: node 4 is not there"),
        ("cpus = ['0', ['1']]", "cpus: a list where a string should be"),
        ("cpu_weight = 70000", "cpu_weight: 70000 cannot be"),
        ("cap = 101", "cap: 101 cannot be (it can be from 0 to 100)"),
        ("pool = ''", "pool: '' is no cpupool's name"),
        ("uuid = 'x'", "uuid: 'x' is no UUID"),
        ("shadow_memory = '-1'", "shadow_memory: -1 MiB cannot be"),
        ("videoram = '-1'", "videoram: -1 MiB cannot be"),
        ("type = 'hvm'; videoram = 7", "videoram: 7 MiB; cirrus needs at least 8"),
        ("type = 'hvm'; stdvga = 1; videoram = 8", "videoram: 8 MiB; stdvga needs at least 16"),
        ("type = 'hvm'; vga = 'vesa'", "vga: 'vesa' is none of none, stdvga, cirrus, qxl"),
        ("type = 'hvm'; vga = 'qxl'; device_model_version = 'qemu-xen-traditional'", "vga: qxl needs"),
        ("device_model_version = 'qemu'", "device_model_version: 'qemu' is none of"),
        ("passthrough = 'yes'", "passthrough: 'yes' is none of"),
        ("passthrough = 'share_pt'", "passthrough: share_pt is for HVM guests with HAP only"),
        ("device_model_stubdomain_override = 1; type = 'hvm'; stubdomain_memory = 0", "stubdomain_memory: 0 MiB"),
    ],
)
def test_what_cannot_be(settings: str, problem: str) -> None:
    assert problem in refusal(settings)


@pytest.mark.parametrize(
    ("text", "problem"), [("memory = 1", "no name="), ("name = 'g'", "no memory="), ("", "no name=")]
)
def test_what_has_to_be_there(text: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        read_guest(parse(text, "g.cfg"), HOST)


STUBDOMAIN = "type = 'hvm'\nmemory = 1024\nvcpus = 2\ndevice_model_stubdomain_override = 1"
TWO_VNODES = """\
type = 'hvm'; memory = 601
vnuma = [['pnode=0', 'size=300', 'vcpus=0-2', 'vdistances=10,20'],
         ['pnode=1', 'size=301', 'vcpus=3', 'vdistances=20,10']]
"""


@pytest.mark.parametrize(
    ("settings", "need_kib"),
    [
        # what libxl_domain_need_memory of Xen 4.17.7 answered, for the same configs through xl's own parser, on a host
        # with HAP whose IOMMU shares no page tables
        ("memory = 256\nvcpus = 2", 266240),
        ("memory = 256", 264192),
        ("memory = 1", 4096),
        ("memory = 1000\nmaxmem = 3000\nvcpus = 3\nmaxvcpus = 7", 1044480),
        ("type = 'pvh'\nmemory = 256\nvcpus = 2", 268288),
        ("type = 'pvh'\nmemory = 512\nmaxmem = 2048\nvcpus = 4", 538624),
        ("type = 'hvm'\nmemory = 1024\nvcpus = 2", 1056768),
        ("type = 'hvm'\nmemory = 1024\nvcpus = 2\nhap = 0", 1060864),
        ("type = 'hvm'\nmemory = 1024\nvcpus = 2\nshadow_memory = 33", 1085440),
        ("type = 'hvm'\nmemory = 1024\nvcpus = 2\nvideoram = 64", 1056768),
        ("type = 'hvm'\nmemory = 2048\nvcpus = 1\nmaxvcpus = 128", 2238464),
        (STUBDOMAIN, 1089536),
        (f"{STUBDOMAIN}\ndevice_model_version = 'qemu-xen'\nvga = 'stdvga'", 1204224),
        (f"{STUBDOMAIN}\nstubdomain_memory = 64\nvideoram = 16", 1138688),
        ("type = 'hvm'\nmemory = 100000\nvcpus = 16\npci = ['01:00.0']", 103020544),
        ("memory = 100000\nvcpus = 16\npci = ['01:00.0']", 103018496),
        (TWO_VNODES, 624640),
    ],
)
def test_the_memory_that_libxl_looks_for(settings: str, need_kib: int) -> None:
    assert libxl_need_kib(guest(settings)) == need_kib


@pytest.mark.parametrize(
    ("hardware", "settings", "need_kib"),
    [
        (Hardware(hap=False), "type = 'hvm'\nmemory = 1024\nvcpus = 2", 1060864),
        (Hardware(hap=False), "type = 'hvm'\nmemory = 100000\nvcpus = 16\npci = ['01:00.0']", 103419904),
        (Hardware(hap=False), "type = 'pvh'\nmemory = 256\nvcpus = 2", 268288),
        (Hardware(shared_iommu_tables=True), "type = 'hvm'\nmemory = 100000\nvcpus = 16\npci = ['01:00.0']", 102819840),
        (Hardware(shared_iommu_tables=True), "memory = 100000\nvcpus = 16\npci = ['01:00.0']", 103018496),
    ],
)
def test_it_depends_on_the_host(hardware: Hardware, settings: str, need_kib: int) -> None:
    assert libxl_need_kib(guest(settings, hardware=hardware)) == need_kib


def test_libxl_starts_with_32_mib_where_only_the_shadow_is_given() -> None:
    request = read_guest(parse("name = 'g'; shadow_memory = 0; vcpus = 1", "g.cfg"), HOST)
    assert (request.memory_mib, libxl_need_kib(request)) == (32, 34816)


def test_several_guests() -> None:
    one, two = parse("name = 'a'; memory = 1", "a.cfg"), parse("name = 'b'; memory = 2", "b.cfg")
    assert [request.memory_mib for request in read_guests([one, two], HOST)] == [1, 2]
    with pytest.raises(BadInput, match=r"c.cfg: line 2: name: 'a' is the name of the domain in a.cfg too"):
        read_guests([one, two, parse("memory = 3\nname = 'a'", "c.cfg")], HOST)


def test_several_guests_with_one_device() -> None:
    texts = [
        f"name = '{name}'; memory = 1; pci = ['{address}']" for name, address in (("a", "01:00.0"), ("b", "1:0.0"))
    ]
    with pytest.raises(BadInput, match=r"b.cfg: line 1: pci: 0000:01:00.0 goes to the domain in a.cfg already"):
        read_guests([parse(text, f"{'ab'[index]}.cfg") for index, text in enumerate(texts)], HOST)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "settings",
    [
        "a = 1;" * 40_000,
        "cpus = '" + "0-7,^3," * 50_000 + "1'",
        "vcpus = 128; cpus = [" + "'all'," * 50_000 + "]",
        "type = 'hvm'; pci = [" + "".join(f"'{n >> 5:x}:{n & 31:x}.{f}'," for n in range(8192) for f in "1234") + "]",
        "type = 'hvm'; vnuma = [['pnode=0', 'size=256', 'vdistances=10', 'vcpus=" + "0-8191," * 50_000 + "1']]",
    ],
    ids=["one line", "one list", "many lists", "devices", "vnuma"],
)
def test_large_values_take_no_undue_time(settings: str) -> None:
    if "vnuma" in settings:
        assert "vCPU 0 is there twice" in refusal(settings)
    else:
        assert guest(settings).vcpus in (1, 128)


KEYS = [
    "name",
    "type",
    "vcpus",
    "maxvcpus",
    "memory",
    "maxmem",
    "cpus",
    "cpus_soft",
    "pci",
    "vnuma",
    "pool",
    "uuid",
    "cap",
]
WORDS = [
    "'g'",
    "'hvm'",
    "1",
    "0",
    "'-1'",
    "'0-3,^2'",
    "99999999999",
    "'01:00.0'",
    "[]",
    "['0']",
    "[[]]",
    "'\udcff'",
    "''",
]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(WORDS)), max_size=8))
def test_any_config_is_read_or_refused(assignments: list[tuple[str, str]]) -> None:
    text = "\n".join(["name = 'g'", "memory = 1", *(f"{key} = {word}" for key, word in assignments)])
    try:
        request = read_guest(parse(text, "g.cfg"), HOST)
    except BadInput as error:
        printable = str(error).isprintable()
    else:
        printable = request.name.isprintable()
        assert 1 <= request.vcpus <= request.max_vcpus
        assert 1 <= request.memory_mib <= request.max_memory_mib
    assert printable
