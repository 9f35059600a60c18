"""The part of domicile that runs in Dom0: sent there through the connection, alive as long as the connection is.

One file, standard library, Python 3.6 (XCP-ng 8.3's Dom0): nothing is installed on the host. It reads one request a
line on descriptor 0, `{"op": …, "args": {…}}`, and writes one answer a line on descriptor 1, `{"ok": …}` or
`{"error": {"kind", "message", "output"}}`; an empty line is a sign of life from the client. Without any line for
`LEASE_S` the client is taken for gone (sshd may take hours to notice a cable pulled), as at the end of input or a
signal: then every domain that was created here and not unpaused is destroyed, every reservation made here ends, and
every vCPU held here is let go.

What is shared between agents is in `/run/domicile` (`DOMICILE_RUN_DIR`), 0700, and so gone after a reboot; `agent.sh`
uses the same files. `lock` is taken with flock(2). `generation` counts the reservations ever made. A file in
`reservations/` (name: the token) or `building/` (name: the domain's UUID) starts with a line "PID STARTTIME" of its
owner: the owner dead, the file means nothing. `building/` records are those of domains created and not yet unpaused:
the second line is "PID STARTTIME" of `xl create`, the third the domain's name as JSON. A file in `holds/` (name: the
domain's UUID, a dot, the vCPU) says in its second line which hard affinity it had and which it was given;
`office/manager` who changes this host of their own accord, as JSON in its second line. `halted`, as JSON, says why
nobody may; it is nobody's, and is there until it is taken away. `moves/` has a folder for each domain whose memory is
on its way to other nodes, or was: see `mover.py`, which is sent along and does it. `memory-map` holds the last dump of
debug key `u`: a line "UPTIME DURATION" in seconds, then the console's text from its header on.

Answers hold `xl`'s tables, unread: the client has the parsers. Starting `xl` costs far more than what it does (half a
second of CPU time under the lab's emulation), so where Xen's Python bindings and libxenctrl can be asked, `Direct`
writes the same tables from what they say, and no program is started.

Sources: tools/xl/xl_info.c, xl_vcpu.c and xl_cpupool.c, tools/python/xen/lowlevel/xc/xc.c, tools/libs/light/libxl_dom.c
(user data), all of Xen 4.17.
"""

import errno
import fcntl
import importlib
import json
import os
import re
import select
import signal
import stat
import sys
import time
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

LEASE_S = float(os.environ.get("DOMICILE_LEASE_S", "30"))
RUN_DIR = os.environ.get("DOMICILE_RUN_DIR", "/run/domicile")
USERDATA = "/var/lib/xen/userdata-d.%d.%s.libxl-json"
SYS_DIR = os.environ.get("DOMICILE_SYS_DIR", "/sys")
PCI_DIR = os.environ.get("DOMICILE_PCI_DIR", "/sys/bus/pci")
SAVE_DIR = os.environ.get("DOMICILE_SAVE_DIR", "/var/lib/xen/domicile")
SRAT = os.environ.get("DOMICILE_SRAT", "/sys/firmware/acpi/tables/SRAT")
QUICK_S = 60.0
LOCK_S = 30.0
DUMP_S = 120.0
WRITING_S = 5.0
UNKILLABLE_S = 5.0
MAP_MIN_AGE_S = 5.0
MAP_RATION = 20.0
"""A dump of debug key `u` stops allocation for the domain it walks: at most 1/20 of the time goes into dumps."""

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
LIST_ROW = re.compile(
    r"(.*\S)\s+(\d+)\s+\d+\s+\d+\s+([-rbp][-rbp][-rbp][-s][-rscwS?][-d])\s+[\d.]+\s+(" + UUID + r")\b"
)
DUMP_HEADER = re.compile(rb"^.*'u' pressed -> dumping numa info \(now = (\d+)\)", re.MULTILINE)
TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
SCHEDULERS = {4: "sedf", 5: "credit", 6: "credit2", 7: "arinc653", 8: "rtds", 9: "null"}
BUFFER = 8192
"""Bytes for a set of ids: far more than any machine has, because libxenctrl writes as many as Xen has CPUs."""
LIBXENCTRL_VERSIONS = ["4.%d" % minor for minor in range(5, 22)]
"""The Xen versions in whose tools/include/xenctrl.h the functions used were found, all with one and the same form."""


class Problem(Exception):
    """What went wrong, for the client; output is what `xl` printed.

    kind is "refused", "halted", "conflict" or "failed".
    """

    def __init__(self, kind: str, message: str, output: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.output = output


class Link:
    """The connection to the client, without ever blocking on it."""

    def __init__(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        self.inward, self.outward = os.dup(0), os.dup(1)
        # children and stray prints must neither eat requests nor write between the answers
        os.dup2(null, 0)
        os.dup2(null, 1)
        self.alarm, alarm_in = os.pipe()
        for descriptor in (self.inward, self.outward, self.alarm, alarm_in):
            os.set_blocking(descriptor, False)
        self.gone = False
        self.heard = time.monotonic()
        self.partial = b""
        self.lines = []  # type: List[bytes]
        signal.set_wakeup_fd(alarm_in)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.leave)

    def leave(self, *_: Any) -> None:
        """The client is gone, or we are told to go."""
        self.gone = True

    def wait(
        self, timeout_s: float, reading: Sequence[int] = (), writing: Sequence[int] = ()
    ) -> Tuple[List[int], List[int]]:
        """Wait until one of the descriptors is ready or the client says something; gives the ready ones."""
        mine = [self.alarm] if self.gone else [self.alarm, self.inward]
        ready, writable, _ = select.select(mine + list(reading), list(writing), [], max(timeout_s, 0.0))
        if self.alarm in ready:
            os.read(self.alarm, 512)
        if self.inward in ready:
            self.take_in()
        elif time.monotonic() - self.heard > LEASE_S:
            self.gone = True
        return [descriptor for descriptor in ready if descriptor in reading], writable

    def take_in(self) -> None:
        """Read what the client has sent."""
        try:
            chunk = os.read(self.inward, 1 << 20)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.gone = True
            return
        self.heard = time.monotonic()
        lines = (self.partial + chunk).split(b"\n")
        self.partial = lines.pop()
        self.lines.extend(line for line in lines if line.strip())

    def next_line(self) -> Optional[bytes]:
        """The next request, None once the client is gone."""
        while not self.gone:
            if self.lines:
                return self.lines.pop(0)
            self.wait(1.0)
        return None

    def say(self, answer: Dict[str, Any]) -> None:
        """Send an answer; a client that went away meanwhile is noticed, not raised."""
        data = json.dumps(answer, separators=(",", ":")).encode("ascii") + b"\n"
        while data and not self.gone:
            try:
                data = data[os.write(self.outward, data) :]
            except BlockingIOError:
                self.wait(1.0, writing=[self.outward])
            except OSError:
                self.gone = True


class Done(NamedTuple):
    """A program that ended: status is None if it was killed at its time limit."""

    status: Optional[int]
    out: str
    err: str


def how_it_failed(done: Done) -> str:
    """What an exit status says; a signal that nobody here sent is most often the kernel's, short of memory."""
    if done.status == -signal.SIGKILL:
        return "was killed; Dom0's kernel does so when Dom0 is out of memory (see dmesg)"
    if done.status is not None and done.status < 0:
        return "was ended by signal %d" % -done.status
    return "failed" if (done.err or done.out).strip() else "failed with status %s and said nothing" % done.status


class Child:
    """A program that runs: its own session, no input, its output collected."""

    def __init__(self, argv: Sequence[str], before: Optional[Callable[[], None]]) -> None:
        import subprocess  # noqa: PLC0415  (with all that it imports, dear where nothing has to be started)

        environment = dict(os.environ, LC_ALL="C", PATH=search_path())
        self.process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment,
            preexec_fn=before,  # noqa: PLW1509  (one thread only)
        )
        assert self.process.stdout is not None and self.process.stderr is not None  # noqa: PT018, S101
        self.pipes = {self.process.stdout.fileno(): [], self.process.stderr.fileno(): []}  # type: Dict[int, List[bytes]]
        self.out, self.err = self.pipes.values()
        self.open = list(self.pipes)
        self.ended_at = None  # type: Optional[float]
        self.killed = False

    def take(self, descriptor: int) -> None:
        """Read what there is on one of its pipes."""
        chunk = os.read(descriptor, 1 << 16)
        if chunk:
            self.pipes[descriptor].append(chunk)
        else:
            self.open.remove(descriptor)

    def busy(self) -> bool:
        """Whether it runs or its output may still come. A daemon that it left behind may hold the pipes for ever."""
        if self.ended_at is None and self.process.poll() is not None:
            self.ended_at = time.monotonic()
        if self.ended_at is not None and time.monotonic() - self.ended_at > 1.0:
            self.open = []
        return bool(self.open) or self.ended_at is None

    def kill(self) -> None:
        """End it with all that it started in its session."""
        self.killed = True
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def done(self) -> Done:
        """What became of it."""
        status = self.process.poll()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return Done(None if self.killed else status, readable(b"".join(self.out)), readable(b"".join(self.err)))


class Owner(NamedTuple):
    """A process, told apart from a later one of the same id by the time it started (field 22 of /proc/PID/stat)."""

    pid: int
    start: str

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.start != "" and start_time(self.pid) == self.start


class Row(NamedTuple):
    """A domain in `xl list -v`."""

    id: int
    name: str
    uuid: str
    state: str

    @property
    def paused(self) -> bool:
        """Paused, or still being built."""
        return self.state[2] == "p"

    @property
    def dying(self) -> bool:
        """Destroyed, with pages still held by somebody."""
        return self.state[5] == "d"


def readable(text: bytes) -> str:
    """Text as it was printed; bytes that are no UTF-8 stay recognisable."""
    return text.decode("utf-8", "backslashreplace")


def search_path() -> str:
    """PATH with the administrator's folders, which an SSH session may lack."""
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def read_text(path: str) -> str:
    """A small file's text, "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return readable(file.read()).strip()
    except OSError:
        return ""


def start_time(pid: int) -> Optional[str]:
    """When a process started, in ticks since boot; None if it is gone (or a zombie, which holds nothing)."""
    fields = read_text("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else None


def uptime() -> float:
    """Seconds since Dom0 booted: no clock that somebody may set."""
    return float(read_text("/proc/uptime").split()[0])


def saved_domains() -> List[str]:
    """The UUIDs of domains that a move has saved and not started again."""
    with suppress(OSError):
        return sorted(name[:-5] for name in os.listdir(SAVE_DIR) if name.endswith(".save"))
    return []


def in_path(name: str) -> str:
    """Where a program is, "" if it is not there."""
    found = [os.path.join(folder, name) for folder in search_path().split(":")]
    return ([path for path in found if os.access(path, os.X_OK) and not os.path.isdir(path)] or [""])[0]


def pci_devices() -> List[str]:
    """The addresses of the PCI devices that Dom0 sees: all that there are."""
    with suppress(OSError):
        return sorted(os.listdir(PCI_DIR + "/devices"))
    return []


def assignable_devices() -> List[str]:
    """The devices bound to pciback, and what else is in its folder: the client knows an address."""
    with suppress(OSError):
        return sorted(os.listdir(PCI_DIR + "/drivers/pciback"))
    return []


def pci_behind(folder: str) -> str:
    """The PCI device that a device's folder in sysfs belongs to: the last on the way to it; "" for none."""
    found = re.findall(r"/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/|\Z)", os.path.realpath(folder))
    return str(found[-1]) if found else ""


def backing() -> Dict[str, str]:
    """The first PCI device behind each of Dom0's bridges ("xenbr0") and disks ("/dev/sda", "/dev/mapper/vg-lv").

    A bridge has ports, a bond or a VLAN has cards below it, a volume has disks ("slaves").
    """
    known = {}  # type: Dict[str, str]

    def device_of(folder: str) -> str:
        if folder not in known:
            known[folder] = ""  # should one be below itself
            known[folder] = pci_behind(folder)
            parts = [] if known[folder] else names_in(folder + "/slaves") + names_in(folder + "/brif")
            parts += [] if known[folder] else [name[6:] for name in names_in(folder) if name.startswith("lower_")]
            for part in parts:
                known[folder] = known[folder] or device_of(os.path.dirname(folder) + "/" + part)
        return known[folder]

    found = {}
    for name in names_in(SYS_DIR + "/class/net"):
        if os.path.isdir(SYS_DIR + "/class/net/" + name + "/bridge"):
            found[name] = device_of(SYS_DIR + "/class/net/" + name)
    for name in names_in(SYS_DIR + "/class/block"):
        mapped = read_text(SYS_DIR + "/class/block/" + name + "/dm/name")
        found["/dev/mapper/" + mapped if mapped else "/dev/" + name] = device_of(SYS_DIR + "/class/block/" + name)
    return {name: device for name, device in found.items() if device}


def names_in(folder: str) -> List[str]:
    """What is in a folder; guests' own interfaces lead nowhere and are left out."""
    with suppress(OSError):
        return sorted(name for name in os.listdir(folder) if not name.startswith(("vif", "tap")))
    return []


def xen_version() -> str:
    """The running Xen's "4.17", "" where the kernel does not tell."""
    folder = "/sys/hypervisor/version/"
    major, minor = read_text(folder + "major"), read_text(folder + "minor")
    return major + "." + minor if major and minor else ""


def find_xl() -> str:
    """Where `xl` is. Debian's is a script that starts the running version's own: start that one straight away."""
    candidates = ["/usr/lib/xen-%s/bin/xl" % xen_version()]
    candidates += [os.path.join(folder, "xl") for folder in search_path().split(":")]
    for path in candidates:
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise Problem("failed", "there is no xl")


def open_xc() -> Tuple[Any, str]:
    """`xen.lowlevel.xc`'s connection to Xen, or None and why not."""
    # Debian's place, then those that `python3 -S` has left out of sys.path
    folders = ["/usr/lib/xen-%s/lib/python" % xen_version(), "/usr/lib/python3/dist-packages"]
    own = "/python%d.%d/site-packages" % sys.version_info[:2]
    folders += [prefix + own for prefix in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")]
    sys.path += [folder for folder in folders if os.path.isdir(os.path.join(folder, "xen")) and folder not in sys.path]
    try:
        return importlib.import_module("xen.lowlevel.xc").xc(), ""
    except Exception as error:  # a binding may fail in ways of its own, and all of it can be done without
        return None, "no xen.lowlevel.xc (%s)" % error


def essence(config: Dict[str, Any]) -> Dict[str, Any]:
    """What a snapshot needs of a domain's configuration in libxl's JSON (which leaves out what is 0)."""
    c_info, b_info = config.get("c_info") or {}, config.get("b_info") or {}
    return {
        "type": c_info.get("type"),
        "max_memkb": b_info.get("max_memkb"),
        "vnuma_nodes": b_info.get("vnuma_nodes") or [],
        "sched_params": b_info.get("sched_params") or {},
        "pcidevs": config.get("pcidevs") or [],
        "backends": [nic["bridge"] for nic in config.get("nics") or [] if nic.get("bridge")]
        + [disk["pdev_path"] for disk in config.get("disks") or [] if disk.get("pdev_path")],
    }


def parse_rows(text: str) -> List[Row]:
    """The domains in `xl list -v`."""
    rows = []
    for line in text.split("\n")[1:]:
        match = LIST_ROW.match(line)
        if match:
            rows.append(Row(int(match.group(2)), match.group(1), match.group(4), match.group(3)))
        elif line.strip():
            raise Problem("failed", "xl list printed a line that makes no sense: %r" % line)
    return rows


def only_one(found: List[Row], name: str) -> Row:
    """The domain, if exactly one is called so."""
    if not found:
        raise Problem("refused", "there is no domain called %s" % name)
    if len(found) > 1:
        raise Problem("refused", "%d domains are called %s" % (len(found), name))
    return found[0]


class Shelf:
    """The files in RUN_DIR: what agents have to know of each other."""

    def __init__(self, wait: Callable[[float], Any]) -> None:
        self.wait = wait
        self.me = Owner(os.getpid(), start_time(os.getpid()) or "")
        for folder in (RUN_DIR, *map(self.path, ("reservations", "building", "holds", "office", "moves"))):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(RUN_DIR)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise Problem("failed", "%s is not a folder that only its owner can use; remove it" % RUN_DIR)

    def path(self, *names: str) -> str:
        """A file in RUN_DIR."""
        return os.path.join(RUN_DIR, *names)

    @contextmanager
    def locked(self, name: str = "lock") -> Iterator[None]:
        """Hold a lock. A holder that dies lets go of it; one that hangs is an error after LOCK_S."""
        descriptor = os.open(self.path(name), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                        raise
                if time.monotonic() > deadline:
                    raise Problem("failed", "another domicile has held %s for %d s" % (self.path(name), LOCK_S))
                self.wait(0.02)
            yield
        finally:
            os.close(descriptor)

    def write(self, path: str, text: str) -> None:
        """Write a file whole or not at all."""
        temporary = "%s/.%s.%d" % (os.path.dirname(path), os.path.basename(path), self.me.pid)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.rename(temporary, path)

    def remove(self, path: str) -> None:
        """Remove a file that may be gone already."""
        with suppress(FileNotFoundError):
            os.unlink(path)

    def records(self, folder: str) -> List[Tuple[str, Owner, List[str]]]:
        """Path, owner and further lines of each record; one that makes no sense has an owner that is dead."""
        found = []
        for name in sorted(os.listdir(self.path(folder))):
            path = self.path(folder, name)
            lines = read_text(path).split("\n")
            if not name.startswith(".") and not name.endswith(".cfg") and lines != [""]:
                found.append((path, owner_from(lines[0]), lines[1:]))
        return found

    def generation(self) -> str:
        """Names the state of the reservations: changes with each one made, and with each boot."""
        boot = read_text("/proc/sys/kernel/random/boot_id")[:8]
        return "%s-%d" % (boot, int(read_text(self.path("generation")) or 0))

    def live_reservations(self) -> List[Any]:
        """The reservations whose owners live; the others are dropped. Call it with the lock held."""
        live = []
        for path, owner, lines in self.records("reservations"):
            if owner.alive() and lines:
                live.append(json.loads(lines[0]))
            else:
                self.remove(path)
        return live


def owner_from(line: str) -> Owner:
    """The owner named in a record's line; one that cannot be alive for a line of another form."""
    match = re.match(r"(\d+) (\d+)\Z", line.strip())
    return Owner(int(match.group(1)), match.group(2)) if match else Owner(0, "")


def ids_from(text: str) -> int:
    """The set of ids in a list such as "0-3,6": bit n is id n. "all" has every bit that a buffer has room for."""
    if text == "all":
        return (1 << 8 * BUFFER) - 1
    bits = 0
    for span in text.split(","):
        first, _, last = span.partition("-")
        bits |= (1 << int(last or first) + 1) - (1 << int(first))
    return bits


def set_text(bits: int, length: int) -> str:
    """A set of ids as `xl` prints it (print_bitmap): bit n is id n, of `length` ids."""
    bits &= (1 << length) - 1
    if bits == (1 << length) - 1:
        return "all"
    spans, first = [], -1
    for number in range(length + 1):
        if bits >> number & 1:
            first = number if first < 0 else first
        elif first >= 0:
            spans.append(str(first) if first == number - 1 else "%d-%d" % (first, number - 1))
            first = -1
    return ",".join(spans) or "none"


class Direct:
    """Xen asked without `xl`: the tables that `xl` would print, and the figures that it does not.

    Soft affinity and node affinity are not in the bindings: they are asked of libxenctrl. The functions used take sets
    of bits (and a pair of 16-bit numbers), and are the same in all of LIBXENCTRL_VERSIONS. That they are understood
    right is checked with each vCPU, whose hard affinity the binding tells too.
    """

    def __init__(self, xc: Any) -> None:
        import ctypes  # noqa: PLC0415  (dear to import, and not always needed)

        version = xen_version()
        if version not in LIBXENCTRL_VERSIONS:
            raise ValueError("libxenctrl of Xen %s is not known" % version)
        self.xc = xc
        self.store = importlib.import_module("xen.lowlevel.xs").xs()
        self.library = ctypes.CDLL("libxenctrl.so." + version)
        self.library.xc_interface_open.restype = ctypes.c_void_p
        self.library.xc_interface_open.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
        self.library.xc_vcpu_getaffinity.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_uint32,
        ]
        self.library.xc_vcpu_setaffinity.argtypes = self.library.xc_vcpu_getaffinity.argtypes
        self.library.xc_domain_node_getaffinity.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p]
        self.handle = self.library.xc_interface_open(None, None, 0)
        if not self.handle:
            raise ValueError("libxenctrl cannot reach Xen")
        self.buffer = ctypes.create_string_buffer
        self.hard, self.soft = self.buffer(BUFFER), self.buffer(BUFFER)

    def read(self, path: str) -> Optional[str]:
        """A value in xenstore, None if it is not there."""
        value = self.store.read("", path)
        return value if value is None or isinstance(value, str) else readable(value)

    def domains(self) -> List[Dict[str, Any]]:
        """`domain_getinfo` of all domains, however many, with their names."""
        infos = []  # type: List[Dict[str, Any]]
        while True:
            more = self.xc.domain_getinfo(infos[-1]["domid"] + 1 if infos else 0, 1024)
            infos += more
            if len(more) < 1024:
                break
        for info in infos:
            info["name"] = self.read("/local/domain/%d/name" % info["domid"]) or "(null)"
            digits = "".join("%02x" % byte for byte in info["handle"])
            info["uuid"] = "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])
            # the binding shows a crash as not shut down
            shut = info["shutdown"] or info["crashed"]
            info["reason"] = info["shutdown_reason"] if shut else None
            flags = [("r", info["running"]), ("b", info["blocked"]), ("p", info["paused"]), ("s", shut)]
            info["state"] = "".join(letter if flag else "-" for letter, flag in flags)
            info["state"] += "-rscwS"[info["reason"]] if shut and info["reason"] < 6 else "?" if shut else "-"
            info["state"] += "d" if info["dying"] else "-"
        return infos

    def rows(self) -> List[Row]:
        """The domains, as `parse_rows` gives them."""
        return [Row(info["domid"], info["name"], info["uuid"], info["state"]) for info in self.domains()]

    def cpus(self) -> int:
        """How many ids of pCPUs there are."""
        return len(self.xc.topologyinfo()["cpu_to_core"])

    def nodes_of(self, domid: int) -> int:
        """Node affinity."""
        if self.library.xc_domain_node_getaffinity(self.handle, domid, self.hard) != 0:
            return 0
        return int.from_bytes(self.hard.raw, "little")

    def vcpu(self, domid: int, vcpu: int) -> Tuple[Dict[str, Any], int, int]:
        """What the binding tells, hard affinity, soft affinity."""
        info = self.xc.vcpu_getinfo(domid, vcpu)
        if self.library.xc_vcpu_getaffinity(self.handle, domid, vcpu, self.hard, self.soft, 3) != 0:
            raise OSError("vCPU %d of domain %d is gone" % (vcpu, domid))
        hard, soft = int.from_bytes(self.hard.raw, "little"), int.from_bytes(self.soft.raw, "little")
        if hard != sum(1 << cpu for cpu in info["cpumap"]):
            raise ValueError("libxenctrl is not what it was taken for")
        return info, hard, soft

    def pin(self, domid: int, vcpu: int, hard: str, soft: str) -> None:
        """`xl vcpu-pin`: "-" leaves that kind as it is."""
        flags, sets = 0, []
        for flag, text in ((1, hard), (2, soft)):
            # buffers of their own: of those that are read the library fills no more than Xen has CPUs
            sets.append(self.buffer(BUFFER))
            if text != "-":
                flags |= flag
                sets[-1].raw = ids_from(text).to_bytes(BUFFER, "little")
        if self.library.xc_vcpu_setaffinity(self.handle, domid, vcpu, sets[0], sets[1], flags) != 0:
            raise Problem("failed", "Xen does not take CPUs %s / %s for vCPU %d" % (hard, soft, vcpu))

    def tables(self, claims: Callable[[], Tuple[str, Dict[int, int]]]) -> Dict[str, Any]:
        """`xl list -v -c -n`, `xl vcpu-list`, `xl cpupool-list -c`, `xl cpupool-list`, and what `xl` does not tell."""
        cpus = self.cpus()
        nodes = len(self.xc.numainfo()["node_memsize"])
        pools = {pool["cpupool"]: pool for pool in self.xc.cpupool_getinfo()}
        for number, pool in pools.items():
            pool["name"] = self.read("/local/pool/%d/name" % number) or ("Pool-0" if number == 0 else "(null)")
        infos = self.domains()
        # the binding tells nothing of claims, but only a domain that is being built has one, and that is paused
        claims_table, claimed = claims() if any(info["paused"] for info in infos) else ("", {})
        taken_at = time.time()
        listed = ["Name ID Mem VCPUs State Time(s) UUID Reason-Code Security-Label Cpupool NODE-Affinity"]
        vcpus = ["Name ID VCPU CPU State Time(s) Affinity (Hard / Soft)"]
        times, weights = {}, {}  # type: Dict[int, List[int]], Dict[int, Dict[str, int]]
        targets, starts = {}, {}  # type: Dict[int, int], Dict[int, float]
        for info in infos:
            domid, pool = info["domid"], pools.get(info["cpupool"], {"name": "(null)", "sched": 0})
            with suppress(Exception):  # no figure there, or none yet
                targets[domid] = self.target_kb(domid)
            with suppress(Exception):
                starts[domid] = self.started_at(domid)
            listed.append(
                "%-40s %5d %5d %5d     %s  %8.1f %s %8s %16s%16s %s"
                % (
                    info["name"],
                    domid,
                    info["mem_kb"] // 1024 + claimed.get(domid, 0),
                    info["online_vcpus"],
                    info["state"],
                    info["cpu_time"] / 1e9,
                    info["uuid"],
                    "-" if info["reason"] is None else "%x" % info["reason"],
                    "-",
                    pool["name"],
                    set_text(self.nodes_of(domid), nodes),
                )
            )
            try:
                found = [self.vcpu(domid, vcpu) for vcpu in range(info["max_vcpu_id"] + 1)]
                parameters = self.parameters(domid, pool["sched"])
            except ValueError:
                raise
            except Exception:  # noqa: S112  (xc.Error: it ended meanwhile, or has no vCPUs yet)
                continue
            times[domid] = [vcpu["cpu_time"] for vcpu, _, _ in found]
            if parameters:
                weights[domid] = parameters
            for number, (vcpu, hard, soft) in enumerate(found):
                state = ("r" if vcpu["running"] else "-") + ("b" if vcpu["blocked"] else "-") + "-"
                vcpus.append(
                    "%-32s %5d %5d %5s   %s %9.1f  %s / %s"
                    % (
                        info["name"],
                        domid,
                        number,
                        vcpu["cpu"] if vcpu["online"] else "-",
                        state if vcpu["online"] else "--p",
                        vcpu["cpu_time"] / 1e9,
                        set_text(hard, cpus),
                        set_text(soft, cpus),
                    )
                )
        return {
            "domains": "\n".join(listed),
            "vcpus": "\n".join(vcpus),
            "cpupools": "\n".join(["Name CPU list"] + [pool_cpus(pool) for pool in pools.values()]),
            "schedulers": "\n".join(
                ["Name CPUs Sched Active Domain count"] + [pool_kind(pool) for pool in pools.values()]
            ),
            "taken_at": taken_at,
            "claims": claims_table,
            "claimed": claimed,
            "measured": {
                "pcpu_idle_ns": [cpu["idletime"] for cpu in self.xc.getcpuinfo(cpus)],
                "vcpu_time_ns": times,
                "weights": weights,
                "target_kb": targets,
                "started_at": starts,
            },
        }

    def target_kb(self, domid: int) -> int:
        """What the balloon driver is to bring the domain to. libxl takes the video memory out of what it writes there
        (libxl_set_memory_target, tools/libs/light/libxl_mem.c), while Xen counts it as the domain's."""
        memory = "/local/domain/%d/memory/" % domid
        return int(self.read(memory + "target") or "") + max(int(self.read(memory + "videoram") or 0), 0)

    def started_at(self, domid: int) -> float:
        """When libxl built the domain, by Dom0's clock (libxl__domain_build, tools/libs/light/libxl_create.c)."""
        return float(self.read((self.read("/local/domain/%d/vm" % domid) or "") + "/start_time") or "")

    def parameters(self, domid: int, scheduler: int) -> Dict[str, int]:
        """Weight and cap, where the scheduler has them: two 16-bit numbers (the cap is credit2's only since 4.10).

        The binding's own function for credit2 always fails in 4.17 (SystemError: Bad dict format).
        """
        name = SCHEDULERS.get(scheduler)
        if name not in ("credit", "credit2"):
            return {}
        pair = self.buffer(64)
        getter = getattr(self.library, "xc_sched_%s_domain_get" % name)
        getter.argtypes = self.library.xc_domain_node_getaffinity.argtypes
        if getter(self.handle, domid, pair) != 0:
            return {}
        return {"weight": int.from_bytes(pair.raw[:2], "little"), "cap": int.from_bytes(pair.raw[2:4], "little")}

    def machine(self) -> str:
        """What `xl info -n` says that does not change while it stays the same."""
        numa = self.xc.numainfo()
        return repr([self.xc.topologyinfo(), numa["node_memsize"], numa["node_to_node_dist"], pci_devices()])

    def refreshed(self, info: str, claimed_mib: int) -> str:
        """An `xl info -n` of the same machine with the memory that is free now."""
        head, numa, tail = info.partition("\nnuma_info ")
        free = self.xc.numainfo()["node_memfree"]
        # claims were asked for a moment ago: what guests being built took out of them since is missing from both
        total = max(self.xc.physinfo()["free_memory"] // 1024 - claimed_mib, 0)
        head = re.sub(r"^(free_memory +: )\d+", lambda row: row.group(1) + str(total), head, flags=re.MULTILINE)
        head = re.sub(
            r"^(outstanding_claims +: )\d+", lambda row: row.group(1) + str(claimed_mib), head, flags=re.MULTILINE
        )

        def row(match: Any) -> str:
            return "%s     %6d" % (match.group(1), free[int(match.group(2))])

        return head + numa + re.sub(r"^( *(\d+): +\d+) +\d+\b", row, tail, flags=re.MULTILINE)


def pool_cpus(pool: Dict[str, Any]) -> str:
    """A row of `xl cpupool-list -c`."""
    return "%-19s%s" % (pool["name"], ",".join(map(str, pool["cpulist"])))


def pool_kind(pool: Dict[str, Any]) -> str:
    """A row of `xl cpupool-list`."""
    form = "%-19s%3d %9s       y       %4d"
    return form % (pool["name"], len(pool["cpulist"]), SCHEDULERS.get(pool["sched"], "unknown"), pool["n_dom"])


class Agent:
    """Carries requests out."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.xl_path = find_xl()
        self.shelf = Shelf(link.wait)
        self.xc, self.problem = open_xc()
        self.direct = None  # type: Optional[Direct]
        if self.xc is not None:
            try:
                self.direct = Direct(self.xc)
            except Exception as error:  # a library that is not there, or another version: xl does it all
                self.problem = str(error)
        self.mine = {}  # type: Dict[str, str]
        """UUID to name of the domains created here and not unpaused."""
        self.configs = {}  # type: Dict[str, Tuple[Any, Dict[str, Any]]]
        self.classes = {}  # type: Dict[str, str]
        self.movers = []  # type: List[Any]
        self.programs_run = 0
        self.backing = backing()

    # -- programs ------------------------------------------------------------------------------------------------

    def run(self, commands: Iterable[Sequence[str]], limit_s: float, before: Any = None) -> List[Done]:
        """Run `xl` with each of these arguments, all at the same time."""
        children = [Child([self.xl_path, *arguments], before) for arguments in commands]
        self.programs_run += len(children)
        deadline = time.monotonic() + limit_s
        busy = children
        while busy and time.monotonic() < deadline + UNKILLABLE_S:
            if time.monotonic() > deadline:
                for child in busy:
                    child.kill()
            pipes = [pipe for child in busy for pipe in child.open]
            ready, _ = self.link.wait(0.2 if pipes else 0.002, reading=pipes)
            for child in busy:
                for pipe in [pipe for pipe in ready if pipe in child.open]:
                    child.take(pipe)
            busy = [child for child in busy if child.busy()]
        return [child.done() for child in children]

    def xl(self, *commands: Sequence[str], strict: bool = False) -> List[str]:
        """What `xl` prints for each of these; raises if one fails, or if `strict` and it complains."""
        outs = []
        for arguments, done in zip(commands, self.run(commands, QUICK_S)):  # noqa: B905
            if done.status is None:
                raise Problem("failed", "xl %s did not end within %d s" % (arguments[0], QUICK_S), done.err)
            if done.status != 0 or (strict and "libxl: error:" in done.err):
                raise Problem("failed", "xl %s %s" % (arguments[0], how_it_failed(done)), done.err or done.out)
            outs.append(done.out)
        return outs

    def rows(self) -> List[Row]:
        """The domains."""
        if self.direct is not None:
            return self.direct.rows()
        return parse_rows(self.xl(["list", "-v"])[0])

    def named(self, name: str) -> List[Row]:
        """The living domains of this name; of several, the one that was created here if there is one."""
        found = [row for row in self.rows() if row.name == name and not row.dying]
        return [row for row in found if row.uuid in self.mine] or found

    def the(self, name: str) -> Row:
        """The one domain of this name."""
        return only_one(self.named(name), name)

    # -- requests ------------------------------------------------------------------------------------------------

    def hello(self) -> Dict[str, Any]:
        """Who and what is here; clears away first what an agent that was killed has left."""
        self.sweep()
        return {
            "python": "%d.%d" % sys.version_info[:2],
            "xl": self.xl_path,
            "xc": self.xc is not None,
            "direct": self.direct is not None,
            "problem": self.problem,
            "pid": self.shelf.me.pid,
            "lease_s": LEASE_S,
        }

    def reserve(self, token: str, expected_generation: str, reservation: Dict[str, Any]) -> Dict[str, Any]:
        """Record a reservation, unless another was made since."""
        if not TOKEN.match(token):
            raise Problem("failed", "%r cannot be a reservation's token" % token)
        with self.shelf.locked():
            self.shelf.live_reservations()
            found = self.shelf.generation()
            if found != expected_generation:
                raise Problem(
                    "conflict", "reservations changed since the snapshot (%s, now %s)" % (expected_generation, found)
                )
            path = self.shelf.path("reservations", token)
            if os.path.exists(path):
                raise Problem("failed", "reservation %s is there already" % token)
            self.shelf.write(path, "%d %s\n%s\n" % (*self.shelf.me, json.dumps(reservation)))
            self.shelf.write(self.shelf.path("generation"), "%d\n" % (int(found.rpartition("-")[2]) + 1))
            return {"generation": self.shelf.generation()}

    def release(self, token: str) -> Dict[str, Any]:
        """End a reservation."""
        if TOKEN.match(token):
            with self.shelf.locked():
                self.shelf.remove(self.shelf.path("reservations", token))
        return {}

    def create(self, name: str, uuid: str, config: str, limit_s: float) -> Dict[str, Any]:
        """Start a domain, paused. The configuration sets this name and this UUID."""
        self.sweep()
        record, file = self.shelf.path("building", uuid), self.shelf.path("building", uuid + ".cfg")
        mark = "%d %s\n%%s\n%s\n" % (*self.shelf.me, json.dumps(name).replace("%", "%%"))
        with self.shelf.locked():
            # two agents must not both find the name free
            for row in self.rows():
                if (row.name == name and not row.dying) or row.uuid == uuid:
                    raise Problem("refused", "domain %d is called %s and has UUID %s" % (row.id, row.name, row.uuid))
            for _, owner, lines in self.shelf.records("building"):
                if owner.alive() and lines[1:2] == [json.dumps(name)]:
                    raise Problem("refused", "process %d is creating a domain called %s" % (owner.pid, name))
            if os.path.exists(record):
                raise Problem("refused", "a domain of UUID %s is being created" % uuid)
            self.shelf.write(record, mark % "")
        self.mine[uuid] = name

        def before() -> None:
            # in the child: whoever finds our record orphaned has to know that xl may still be at work
            self.shelf.write(record, mark % ("%d %s" % (os.getpid(), start_time(os.getpid()))))

        try:
            self.shelf.write(file, config)
            return {"id": self.build(uuid, self.run([["create", "-q", "-p", file]], limit_s, before)[0], limit_s)}
        except Exception as error:
            try:
                self.abandon(uuid)
            except Problem as again:
                message = "%s; and it could not be cleared away (%s)" % (error, again)
                raise Problem("failed", message, getattr(error, "output", "")) from error
            raise
        finally:
            self.shelf.remove(file)

    def build(self, uuid: str, done: Done, limit_s: float) -> int:
        """The id of the domain that `xl create` made; raises if it made none."""
        output = done.err or done.out
        if done.status is None:
            raise Problem("failed", "xl create did not end within %d s" % limit_s, output)
        if done.status != 0:
            raise Problem("failed", "xl create " + how_it_failed(done), output)
        for row in self.rows():
            if row.uuid == uuid:
                return row.id
        raise Problem("failed", "xl create ended well, but there is no domain of UUID %s" % uuid, output)

    def unpause(self, name: str) -> Dict[str, Any]:
        """Let a domain run; from now on it is nobody's."""
        row = self.the(name)
        # 4.17's xl unpause ends with 0 whatever happens
        self.xl(["unpause", str(row.id)], strict=True)
        self.mine.pop(row.uuid, None)
        self.shelf.remove(self.shelf.path("building", row.uuid))
        return {}

    def destroy(self, name: str, uuid: str) -> Dict[str, Any]:
        """Destroy a domain if it is there; with a UUID, only the one that has it."""
        found = [row for row in self.named(name) if uuid in ("", row.uuid)]
        if not found:
            return {}
        row = only_one(found, name)
        self.destroy_row(row)
        self.mine.pop(row.uuid, None)
        self.shelf.remove(self.shelf.path("building", row.uuid))
        return {}

    def set_affinity(self, name: str, vcpu: int, hard: str, soft: str) -> Dict[str, Any]:
        """Set a vCPU's affinity; "-" leaves that kind as it is."""
        if self.held(self.shelf.path("office", "manager"))[0] == self.shelf.me:
            self.refuse_if_halted()
        self.pin(self.the(name).id, vcpu, hard, soft)
        return {}

    def set_memory(self, name: str, uuid: str, target_mib: int) -> Dict[str, Any]:
        """Set what a domain's balloon driver is to bring it to."""
        if self.held(self.shelf.path("office", "manager"))[0] == self.shelf.me:
            self.refuse_if_halted()
        row = self.the(name)
        if row.uuid != uuid:
            raise Problem("refused", "domain %d, %s, is another now, of UUID %s" % (row.id, name, row.uuid))
        self.xl(["mem-set", str(row.id), "%dm" % target_mib], strict=True)
        return {}

    def hold(self, name: str, uuid: str, vcpu: int, before: str, held: str) -> Dict[str, Any]:
        """Give a vCPU another hard affinity for as long as we are there; `before` is what it gets back."""
        row = self.the(name)
        if row.uuid != uuid:
            raise Problem("refused", "domain %d, %s, is another now, of UUID %s" % (row.id, name, row.uuid))
        record = self.shelf.path("holds", "%s.%d" % (uuid, vcpu))
        with self.shelf.locked():
            self.refuse_if_halted()
            owner, line = self.held(record)
            if owner.alive() and owner != self.shelf.me:
                raise Problem("refused", "vCPU %d of %s is held by process %d" % (vcpu, name, owner.pid))
            had, given = line.split() if line else (before, held)
            if not line and self.hard_affinity(row.id, vcpu) != before:
                raise Problem("conflict", "the hard affinity of vCPU %d of %s has changed" % (vcpu, name))
            if line and self.hard_affinity(row.id, vcpu) != given:
                self.shelf.remove(record)
                raise Problem("conflict", "somebody else set the hard affinity of vCPU %d of %s" % (vcpu, name))
            # what it had is on file before it changes, so that whatever ends us, it gets it back
            self.shelf.write(record, "%d %s\n%s %s\n" % (*self.shelf.me, had, held))
            self.pin(row.id, vcpu, held, "-")
        return {}

    def let_go(self, uuid: str, vcpu: int) -> Dict[str, Any]:
        """Give a vCPU the hard affinity back that it had before it was held here."""
        with self.shelf.locked():
            self.give_back(self.shelf.path("holds", "%s.%d" % (uuid, vcpu)))
        return {}

    def manage(self, who: Any) -> Dict[str, Any]:
        """Take the office of this host's manager, which one at a time can have; None lays it down."""
        record = self.shelf.path("office", "manager")
        with self.shelf.locked():
            owner, line = self.held(record)
            if owner == self.shelf.me or not owner.alive():
                self.shelf.remove(record)
            elif who is not None:
                raise Problem("refused", "this host is managed by %s (process %d here)" % (json.loads(line), owner.pid))
            if who is not None:
                self.refuse_if_halted()
                self.shelf.write(record, "%d %s\n%s\n" % (*self.shelf.me, json.dumps(who)))
        return {}

    def halt(self, why: Any) -> Dict[str, Any]:
        """Stop every manager of this host and end all holds, whoever made them; None lets managers start again."""
        mark, kept = self.shelf.path("halted"), []  # type: str, List[str]
        with self.shelf.locked():
            if why is None:
                self.shelf.remove(mark)
                return {}
            # the mark first: killed in between, nobody holds anew what was let go
            self.shelf.write(mark, json.dumps(why) + "\n")
            for path, _, _ in self.shelf.records("holds"):
                try:
                    self.give_back(path)
                except (Problem, OSError, ValueError) as error:
                    # the record stays: whoever made it tries again when it ends, and so does the next agent
                    kept.append(str(error))
        if kept:
            raise Problem("failed", "managers are stopped, but %d vCPUs could not be let go: %s" % (len(kept), kept[0]))
        return {}

    def halted(self) -> str:
        """Why nobody may change this host of their own accord; "" if they may."""
        mark = read_text(self.shelf.path("halted"))
        return str(json.loads(mark)) if mark else ""

    def refuse_if_halted(self) -> None:
        """Raise if somebody has stopped the managers of this host."""
        why = self.halted()
        if why:
            raise Problem("halted", "managers of this host are stopped: %s" % why)

    # -- moves ---------------------------------------------------------------------------------------------------

    def move(self, order: Dict[str, Any], program: str) -> Dict[str, Any]:
        """Begin to move a domain's memory: `program` is mover.py, which outlives us."""
        token, name, uuid = order["token"], order["domain"], order["uuid"]
        if not TOKEN.match(token):
            raise Problem("failed", "%r cannot be a move's token" % token)
        if self.xc is None:
            raise Problem("refused", "moving memory takes Xen's Python bindings in Dom0 (%s)" % self.problem)
        if self.held(self.shelf.path("office", "manager"))[0] == self.shelf.me:
            self.refuse_if_halted()
        self.sweep()
        with self.shelf.locked():
            for folder in self.moves():
                if os.path.basename(folder) == token:
                    raise Problem("refused", "there is a move %s already" % token)
                if self.unended(folder) and json.loads(read_text(folder + "/order"))["uuid"] == uuid:
                    raise Problem("refused", "%s is being moved already" % name)
            row = self.the(name)
            if row.uuid != uuid:
                raise Problem("refused", "domain %d, %s, is another now, of UUID %s" % (row.id, name, row.uuid))
            if row.id == 0:
                raise Problem("refused", "Dom0 is not moved")
            self.shelf.write(self.shelf.path("mover.py"), program)
            folder = self.shelf.path("moves", token)
            os.mkdir(folder, 0o700)
            self.shelf.write(folder + "/order", json.dumps(dict(order, xl=self.xl_path)))
            self.start_mover(folder)
        return {}

    def end_move(self, token: str) -> Dict[str, Any]:
        """Forget a move that ended; call off one that goes on."""
        folder = self.shelf.path("moves", token)
        if TOKEN.match(token) and os.path.isdir(folder):
            with self.shelf.locked():
                if self.unended(folder):
                    self.shelf.write(folder + "/cancel", "")
                else:
                    for name in os.listdir(folder):
                        self.shelf.remove(os.path.join(folder, name))
                    os.rmdir(folder)
        return {}

    def moves(self) -> List[str]:
        """The folders of moves; one without an order never began."""
        found = [self.shelf.path("moves", name) for name in sorted(os.listdir(self.shelf.path("moves")))]
        return [folder for folder in found if os.path.exists(folder + "/order")]

    def unended(self, folder: str) -> bool:
        """Whether a move goes on, or should."""
        return not os.path.exists(folder + "/result")

    def start_mover(self, folder: str) -> None:
        """Start what moves, or goes on with what one that was killed had begun."""
        import subprocess  # noqa: PLC0415

        argv = [sys.executable, "-ISu", self.shelf.path("mover.py"), folder]
        outside = os.environ.get("INVOCATION_ID") and in_path("systemd-run")
        if outside:
            # we are in a service: it would end with us, and the service may do less than xl needs
            settings = ["--setenv=PATH=" + search_path(), "--setenv=DOMICILE_SAVE_DIR=" + SAVE_DIR]
            argv = [outside, "--quiet", "--collect", "--description=domicile moves memory", *settings, *argv]
        with open(folder + "/log", "ab") as log:
            mover = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=dict(os.environ, PATH=search_path()),
            )
        self.movers.append(mover)
        if not outside:
            self.shelf.write(folder + "/mover", "%d %s\n" % (mover.pid, start_time(mover.pid)))
            return
        if mover.wait() != 0:
            raise Problem("failed", "systemd-run does not start what moves memory", read_text(folder + "/log"))
        deadline = time.monotonic() + LOCK_S / 2
        # it writes down itself who it is: until then others would take it for dead
        while not os.path.exists(folder + "/mover") and time.monotonic() < deadline:
            self.link.wait(0.05)

    def moving(self) -> List[Dict[str, Any]]:
        """All moves, as they stand."""
        # a child that ended is known to have ended once somebody asks
        self.movers = [mover for mover in self.movers if mover.poll() is None]
        found = []
        for folder in self.moves():
            # what is seen to go on may end meanwhile: the result is read first, for it never goes away before the order
            result, order = read_text(folder + "/result"), read_text(folder + "/order")
            if order:
                # "STAGE DONE TOTAL", and a stage can be two words
                stage, _, done = read_text(folder + "/progress").rpartition(" ")[0].rpartition(" ")
                found.append(
                    {
                        "order": json.loads(order),
                        "stage": stage,
                        "done_mib": int(done or 0),
                        "result": json.loads(result) if result else None,
                    }
                )
        return found

    # -- affinity ------------------------------------------------------------------------------------------------

    def pin(self, domid: int, vcpu: int, hard: str, soft: str) -> None:
        """Set affinity; "-" leaves that kind as it is."""
        if self.direct is not None:
            self.direct.pin(domid, vcpu, hard, soft)
        else:
            self.xl(["vcpu-pin", str(domid), str(vcpu), hard, soft], strict=True)

    def hard_affinity(self, domid: int, vcpu: int) -> str:
        """The hard affinity as a list of pCPUs."""
        if self.direct is not None:
            return set_text(self.direct.vcpu(domid, vcpu)[1], self.direct.cpus())
        for line in self.xl(["vcpu-list", str(domid)])[0].split("\n")[1:]:
            match = re.match(r".* %d +(\d+) +\S+ +\S+ +[\d.]+ +(\S+) / " % domid, line)
            if match and int(match.group(1)) == vcpu:
                return match.group(2)
        raise Problem("refused", "domain %d has no vCPU %d" % (domid, vcpu))

    def held(self, record: str) -> Tuple[Owner, str]:
        """Who a record belongs to and what it says; nobody and nothing if there is none."""
        lines = read_text(record).split("\n")
        return owner_from(lines[0]), lines[1] if lines[1:] else ""

    def give_back(self, record: str) -> None:
        """Undo a hold, unless somebody else has set that affinity since. Call it with the lock held."""
        _, line = self.held(record)
        uuid, _, vcpu = os.path.basename(record).rpartition(".")
        if len(line.split()) == 2:
            before, given = line.split()
            for row in self.rows():
                if row.uuid == uuid and not row.dying and self.hard_affinity(row.id, int(vcpu)) == given:
                    self.pin(row.id, int(vcpu), before, "-")
        self.shelf.remove(record)

    # -- domains that have no owner (any more) -------------------------------------------------------------------

    def destroy_row(self, row: Row) -> None:
        """Destroy a domain; that it went away by itself meanwhile is no failure."""
        if row.id == 0:
            raise Problem("refused", "Dom0 is not destroyed")
        try:
            self.xl(["destroy", str(row.id)])
        except Problem:
            if any(left.id == row.id and not left.dying for left in self.rows()):
                raise

    def abandon(self, uuid: str) -> None:
        """Destroy a domain that was created and never unpaused. One that somebody unpaused is left alone."""
        for row in self.rows():
            if row.uuid == uuid and row.paused and not row.dying:
                self.destroy_row(row)
        self.mine.pop(uuid, None)
        self.shelf.remove(self.shelf.path("building", uuid + ".cfg"))
        self.shelf.remove(self.shelf.path("building", uuid))

    def sweep(self) -> None:
        """Abandon what dead agents were building, after ending an `xl create` of theirs that is still at work."""
        for path, owner, lines in self.shelf.records("building"):
            if owner.alive():
                continue
            builder = owner_from(lines[0] if lines else "")
            if builder.alive():
                for kill in (os.killpg, os.kill):
                    with suppress(ProcessLookupError):
                        kill(builder.pid, signal.SIGKILL)
            while builder.alive():
                self.link.wait(0.05)
            self.abandon(os.path.basename(path))
        for folder in self.moves():
            if self.unended(folder) and not owner_from(read_text(folder + "/mover")).alive():
                with self.shelf.locked():
                    # somebody else may have started it again, or it may have come to its end
                    if self.unended(folder) and not owner_from(read_text(folder + "/mover")).alive():
                        self.start_mover(folder)
        if any(not owner.alive() for _, owner, _ in self.shelf.records("holds")):
            with self.shelf.locked():
                for path, owner, _ in self.shelf.records("holds"):
                    if not owner.alive():
                        self.give_back(path)

    def leave(self) -> None:
        """The client is gone: nothing that it began and did not end may stay."""
        for uuid in list(self.mine):
            for pause_s in (0.2, 1.0, 5.0, 0.0):
                try:
                    self.abandon(uuid)
                    break
                except (Problem, OSError):
                    # what cannot be destroyed now keeps its record, and the next agent tries again
                    time.sleep(pause_s)
        for path, owner, _ in self.shelf.records("reservations") + self.shelf.records("office"):
            if owner == self.shelf.me:
                self.shelf.remove(path)
        for path, owner, _ in self.shelf.records("holds"):
            if owner == self.shelf.me:
                # what cannot be given back now keeps its record, and the next agent tries again
                with suppress(Problem, OSError, ValueError), self.shelf.locked():
                    self.give_back(path)

    # -- snapshot ------------------------------------------------------------------------------------------------

    def snapshot(self, memory_map: str) -> Dict[str, Any]:
        """The host now.

        The order matters: reservations, then the domains' memory, then the nodes' free memory. Whatever happens in
        between, memory is at worst counted twice, never promised twice.
        """
        begun = time.monotonic()
        programs = self.programs_run
        notes = []  # type: List[str]
        self.sweep()
        with self.shelf.locked():
            reservations = self.shelf.live_reservations()
            generation = self.shelf.generation()
            holds = [
                os.path.basename(path) + " " + lines[0]
                for path, owner, lines in self.shelf.records("holds")
                if owner.alive() and len(lines[0].split()) == 2
            ]
            owner, manager = self.held(self.shelf.path("office", "manager"))
            halted = self.halted()
        tables = self.tables(notes)
        ids = [(int(m.group(2)), m.group(4)) for m in map(LIST_ROW.match, tables["domains"].split("\n")) if m]
        tables.update(
            {
                "host_id": read_text("/etc/machine-id")
                or read_text("/sys/class/dmi/id/product_uuid")
                or os.uname().nodename,
                "generation": generation,
                "reservations": reservations,
                "holds": holds,
                "moves": self.moving(),
                "saved": saved_domains(),
                "manager": json.loads(manager) if owner.alive() else "",
                "halted": halted,
                "pci_devices": pci_devices(),
                "backing": self.backing,
                "pci_classes": self.pci_classes(),
                "assignable_devices": assignable_devices(),
                "configs": self.configurations(ids, notes),
                "memory_map": self.memory_map(memory_map, notes),
                "notes": notes,
            }
        )
        tables.update(programs=self.programs_run - programs, seconds=time.monotonic() - begun)
        return tables

    def tables(self, notes: List[str]) -> Dict[str, Any]:
        """All tables, the nodes' free memory last."""
        if self.direct is not None:
            try:
                tables = self.direct.tables(self.claims)
                tables["info"] = self.info(sum(tables.pop("claimed").values()))
            except Exception as error:  # whatever it is, xl knows better
                self.direct = None
                self.problem = str(error)
            else:
                return tables
        if self.problem:
            notes.append("asked by way of xl: " + self.problem)
        domains, vcpus, cpupools = self.xl(["list", "-v", "-c", "-n"], ["vcpu-list"], ["cpupool-list", "-c"])
        tables = {"domains": domains, "vcpus": vcpus, "cpupools": cpupools, "taken_at": time.time()}
        tables["measured"] = self.measure(notes)
        tables["info"] = self.xl(["info", "-n"])[0]
        if re.search(r"^outstanding_claims\s*: *[1-9]", tables["info"], re.MULTILINE):
            tables["claims"] = self.xl(["claims"])[0]
            tables["info"] = self.xl(["info", "-n"])[0]
        if len(cpupools.split("\n")) > 3:
            tables["schedulers"] = self.xl(["cpupool-list"])[0]
        return tables

    def claims(self) -> Tuple[str, Dict[int, int]]:
        """`xl claims`, and domain id to MiB claimed and not taken out of it."""
        found = {}
        text = self.xl(["claims"])[0]
        for line in text.split("\n")[1:]:
            match = re.match(r".*\S +(\d+) +\d+ +\d+ +\S{6} +[\d.]+ +(\d+)\Z", line)
            if match:
                found[int(match.group(1))] = int(match.group(2))
        return text, found

    def info(self, claimed_mib: int) -> str:
        """`xl info -n`. Only free memory changes: the rest is kept on file until the next boot or change."""
        assert self.direct is not None  # noqa: S101
        path, machine = self.shelf.path("info"), self.direct.machine()
        kept, _, text = read_text(path).partition("\n")
        if kept != machine:
            text = self.xl(["info", "-n"])[0]
            self.shelf.write(path, machine + "\n" + text)
        return self.direct.refreshed(text, claimed_mib)

    def measure(self, notes: List[str]) -> Dict[str, Any]:
        """The idle times of pCPUs, where there is a binding but no libxenctrl to go with it."""
        if self.xc is None:
            return {}
        try:
            return {"pcpu_idle_ns": [cpu["idletime"] for cpu in self.xc.getcpuinfo(4096)]}
        except Exception as error:  # a snapshot without these figures is better than none
            notes.append("xen.lowlevel.xc gives no times: %s" % error)
            return {}

    def pci_classes(self) -> Dict[str, str]:
        """PCI address to class code, of the devices that tell it: read once, for a device does not change it."""
        for device in pci_devices():
            if device not in self.classes:
                self.classes[device] = read_text(PCI_DIR + "/devices/" + device + "/class")
        return {device: code for device, code in self.classes.items() if code}

    def configurations(self, ids: Sequence[Tuple[int, str]], notes: List[str]) -> Dict[int, Dict[str, Any]]:
        """Domain id to the essence of its configuration.

        libxl keeps it in a file for each domain, and writes it anew with each device added or taken away. For what
        another toolstack made there is no such file: `xl list -l` may know more, and is asked once for each domain.
        """
        known = {}
        for domid, uuid in ids:
            path = USERDATA % (domid, uuid)
            try:
                found = os.stat(path)
                stamp = (found.st_mtime_ns, found.st_size, found.st_ino)  # type: Optional[Tuple[int, ...]]
            except OSError:
                stamp = None
            if path not in self.configs or self.configs[path][0] != stamp:
                if stamp is None:
                    continue
                try:
                    with open(path, "rb") as file:
                        self.configs[path] = (stamp, essence(json.loads(readable(file.read()).rstrip("\0"))))
                except (OSError, ValueError, AttributeError) as error:
                    notes.append("domain %d: its configuration cannot be read (%s)" % (domid, error))
                    continue
            known[domid] = self.configs[path]
        paths = {domid: USERDATA % (domid, uuid) for domid, uuid in ids}
        missing = [domid for domid in paths if domid not in known]
        if missing:
            listed = self.listed_configurations(notes)
            for domid in missing:
                known[domid] = (None, essence(listed.get(domid, {})))
        # what is gone is forgotten, what is there is remembered
        self.configs = {paths[domid]: entry for domid, entry in known.items()}
        return {domid: entry[1] for domid, entry in known.items()}

    def listed_configurations(self, notes: List[str]) -> Dict[int, Dict[str, Any]]:
        """Domain id to configuration, as `xl list -l` knows it."""
        try:
            listed = json.loads(self.xl(["list", "-l"])[0] or "[]")
            return {entry["domid"]: entry.get("config") or {} for entry in listed}
        except (Problem, ValueError, KeyError, TypeError) as error:
            notes.append("xl list -l: %s" % error)
            return {}

    # -- memory map ----------------------------------------------------------------------------------------------

    def memory_map(self, wanted: str, notes: List[str]) -> Optional[Dict[str, Any]]:
        """The last dump of debug key `u`, a new one if that is wanted and fits the ration."""
        if wanted == "none":
            return self.last_dump()
        try:
            with self.shelf.locked("memory-map.lock"):
                last = self.last_dump()
                if wanted == "recent" and last and last["age_s"] < max(MAP_MIN_AGE_S, MAP_RATION * last["duration_s"]):
                    return last
                self.dump()
                return self.last_dump()
        except Exception as problem:  # of the binding's own kind as well
            notes.append("no memory map: %s" % problem)
            return None

    def last_dump(self) -> Optional[Dict[str, Any]]:
        """The dump that is on file."""
        header, _, text = read_text(self.shelf.path("memory-map")).partition("\n")
        match = re.match(r"([\d.]+) ([\d.]+)\Z", header)
        if not match:
            return None
        return {"age_s": uptime() - float(match.group(1)), "duration_s": float(match.group(2)), "text": text}

    def dump(self) -> None:
        """Press the key, and file what comes after a header that is younger than all that were there before."""
        earlier = [int(found.group(1)) for found in DUMP_HEADER.finditer(self.console())]
        taken, begun = uptime(), time.monotonic()
        if self.xc is not None:
            self.xc.send_debug_keys("u")
        else:
            self.xl(["debug-keys", "u"])
        duration = time.monotonic() - begun
        text, before = self.dumped(earlier), None
        # on a busy host Xen may still be writing: another pCPU does, while ours goes on
        deadline = time.monotonic() + WRITING_S
        while self.xc is not None and (not text or text != before) and time.monotonic() < deadline:
            self.link.wait(0.05)
            text, before = self.dumped(earlier), text
        self.shelf.write(self.shelf.path("memory-map"), "%.3f %.3f\n%s" % (taken, duration, text))

    def dumped(self, earlier: Sequence[int]) -> str:
        """What is on the console from the first dump on that is younger than these."""
        console = self.console()
        ours = [found for found in DUMP_HEADER.finditer(console) if int(found.group(1)) > max(earlier, default=-1)]
        return readable(console[ours[0].start() :]) if ours else ""

    def console(self) -> bytes:
        """Xen's console ring."""
        if self.xc is not None:
            return bytes(self.xc.readconsolering())
        done = self.run([["dmesg"]], DUMP_S)[0]
        if done.status != 0:
            raise Problem("failed", "xl dmesg failed", done.err)
        return done.out.encode("utf-8", "surrogateescape")

    def boot_log(self) -> Dict[str, Any]:
        """The lines of Xen's console that name proximity domains, kept on file because the ring forgets them, and the
        SRAT, which a PV Dom0 sees."""
        srat = b""
        with suppress(OSError), open(SRAT, "rb") as file:
            srat = file.read()
        path = self.shelf.path("boot-log")
        kept = read_text(path)
        if not kept:
            kept = "\n".join(line for line in readable(self.console()).split("\n") if " PXM " in line)
            if kept:
                self.shelf.write(path, kept + "\n")
        return {"text": kept, "srat": "".join("%02x" % byte for byte in srat)}

    # -- the loop ------------------------------------------------------------------------------------------------

    def answer(self, line: bytes) -> Dict[str, Any]:
        """Carry out one request."""
        operations = {
            "snapshot": self.snapshot,
            "reserve": self.reserve,
            "release": self.release,
            "create": self.create,
            "unpause": self.unpause,
            "destroy": self.destroy,
            "set_affinity": self.set_affinity,
            "set_memory": self.set_memory,
            "hold": self.hold,
            "let_go": self.let_go,
            "manage": self.manage,
            "move": self.move,
            "end_move": self.end_move,
            "halt": self.halt,
            "boot_log": self.boot_log,
        }  # type: Dict[str, Callable[..., Dict[str, Any]]]
        try:
            request = json.loads(line.decode("utf-8"))
            return {"ok": operations[request["op"]](**request["args"])}
        except Problem as problem:
            return {"error": {"kind": problem.kind, "message": problem.message, "output": problem.output[-8192:]}}
        except Exception as error:  # the client has to hear of it, whatever it is
            return {"error": {"kind": "failed", "message": "%s: %s" % (type(error).__name__, error), "output": ""}}


def main() -> None:
    """Serve until the client is gone."""
    link = Link()
    try:
        agent = Agent(link)
        greeting = {"ok": agent.hello()}  # type: Dict[str, Any]
    except (Problem, OSError) as problem:
        output = problem.output if isinstance(problem, Problem) else ""
        link.say({"error": {"kind": "failed", "message": str(problem), "output": output}})
        return
    try:
        link.say(greeting)
        line = link.next_line()
        while line is not None:
            link.say(agent.answer(line))
            line = link.next_line()
    finally:
        link.gone = True
        agent.leave()


if __name__ == "__main__":
    main()
