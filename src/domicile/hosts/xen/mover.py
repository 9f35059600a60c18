"""Moves one domain's memory to other nodes of its own host: a process of its own in Dom0, which outlives us.

One file, standard library and Xen's Python bindings, Python 3.6, started by `agent.py` as `python3 mover.py FOLDER`.
FOLDER is `/run/domicile/moves/TOKEN`, and holds

- `order`: JSON, what to do (see `Order`); never changed
- `mover`, `worker`: "PID STARTTIME" of this process and of the `xl` that it waits for
- `progress`: "STAGE DONE_MIB TOTAL_MIB"
- `cancel`: there once somebody wants it to end
- `result`: JSON {"ended": "moved" | "failed" | "lost", "why": …}, written last
- `log`: what `xl` said

However often it is killed and started again, it goes on from what it finds: a domain is never started twice, and never
ended while there is no other copy of it. The ways:

- live: `xl migrate` to this host, with what is sent led through us. The configuration at its head, libxl's own JSON,
  gets the affinity that the domain is to have there; so the domain keeps all else, also what was plugged into it.
  Copying for the first time is paced; the later, short rounds are not, nor the last, in which the guest stands still.
- save: `xl save`, then `xl restore`, led through us in the same way. The file is an ordinary one of xl's.
- balloon: node affinity, then the guest gives free memory back and takes it again, from the new nodes.

Sources: tools/xl/xl.h (struct save_file_header), xl_saverestore.c, xl_migrate.c, tools/libs/light/libxl_dom.c
(libxl__build_pre), tools/python/xen/lowlevel/xc/xc.c, all of Xen 4.17.
"""

import ctypes
import importlib
import json
import os
import shlex
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, NamedTuple, Optional

SAVE_DIR = os.environ.get("DOMICILE_SAVE_DIR", "/var/lib/xen/domicile")
MAGIC_BYTES = 32
HEADER = struct.Struct("=%dsIIII" % MAGIC_BYTES)
BYTE_ORDER = 0x01020304
JSON_FLAG = 1
MOST_CONFIG_BYTES = 1 << 24
BLOCK = 1 << 18
PACE_S = 0.05
POLL_S = 0.2
SUSPENDED = 2
"""SHUTDOWN_suspend (xen/include/public/sched.h)."""
BUFFER = 8192
"""Bytes for a set of node ids: libxenctrl reads as many as Xen has nodes."""


class Order(NamedTuple):
    """What to do, as `domicile.state.moves.MoveOrder` has it; `xl` is where that is.

    `hard` and `soft` are lists of CPUs for each vCPU; None leaves them out of the configuration.
    """

    token: str
    domain: str
    uuid: str
    way: str
    nodes: List[int]
    hard: Optional[List[List[int]]]
    soft: Optional[List[List[int]]]
    memory_mib: int
    after_mib: Dict[str, int]
    least_mib: int
    rate_mib_s: float
    limit_s: float
    weight: int
    cap_percent: int
    cpupool: str
    xl: str


class Row(NamedTuple):
    """A domain of Xen's."""

    id: int
    name: str
    uuid: str
    memory_kb: int
    paused: bool
    suspended: bool


class Stop(Exception):
    """The end of it: how it ended, and why."""

    def __init__(self, ended: str, why: str) -> None:
        super().__init__(why)
        self.ended = ended
        self.why = why


class Xen:
    """What Xen and xenstore tell, and the little that is asked of them without `xl`."""

    def __init__(self) -> None:
        version = "%s.%s" % (
            read_text("/sys/hypervisor/version/major"),
            read_text("/sys/hypervisor/version/minor"),
        )
        for folder in ("/usr/lib/xen-%s/lib/python" % version, "/usr/lib/python3/dist-packages"):
            if os.path.isdir(folder):
                sys.path.append(folder)
        for prefix in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"):
            sys.path.append("%s/python%d.%d/site-packages" % (prefix, *sys.version_info[:2]))
        self.version = version
        self.xc = importlib.import_module("xen.lowlevel.xc").xc()
        self.xs = importlib.import_module("xen.lowlevel.xs").xs()

    def rows(self, uuid: str) -> List[Row]:
        """The living domains of this UUID: two of them while one is being received."""
        found, infos = [], []  # type: List[Row], List[Dict[str, Any]]
        while True:
            more = self.xc.domain_getinfo(infos[-1]["domid"] + 1 if infos else 0, 1024)
            infos += more
            if len(more) < 1024:
                break
        for info in infos:
            digits = "".join("%02x" % byte for byte in info["handle"])
            name = self.xs.read("", "/local/domain/%d/name" % info["domid"]) or b""
            name = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
            if digits == uuid.replace("-", "") and not info["dying"]:
                suspended = bool(info["shutdown"]) and info["shutdown_reason"] == SUSPENDED
                found.append(Row(info["domid"], name, uuid, info["mem_kb"], bool(info["paused"]), suspended))
        return found

    def resume(self, domid: int) -> None:
        """Let a domain run on that was suspended and not saved (libxl__domain_resume: cooperatively)."""
        self.xc.domain_resume(domid, 1)
        self.xs.resume_domain(domid)

    def set_nodes(self, domid: int, nodes: List[int]) -> None:
        """Where its new memory is to come from: what is there already stays."""
        library = ctypes.CDLL("libxenctrl.so." + self.version)
        library.xc_interface_open.restype = ctypes.c_void_p
        library.xc_interface_open.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
        library.xc_domain_node_setaffinity.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p]
        library.xc_interface_close.argtypes = [ctypes.c_void_p]
        handle = library.xc_interface_open(None, None, 0)
        if not handle:
            raise Stop("failed", "libxenctrl cannot reach Xen")
        bits = sum(1 << node for node in nodes).to_bytes(BUFFER, "little")
        status = library.xc_domain_node_setaffinity(handle, domid, ctypes.create_string_buffer(bits, BUFFER))
        library.xc_interface_close(handle)
        if status != 0:
            raise Stop("failed", "Xen does not take the nodes %s" % nodes)


def read_text(path: str) -> str:
    """A small file's text, "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "backslashreplace").strip()
    except OSError:
        return ""


def write(folder: str, name: str, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = os.path.join(folder, ".%s.%d" % (name, os.getpid()))
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(temporary, os.path.join(folder, name))


def start_time(pid: int) -> str:
    """When a process started, in ticks since boot; "" if it is gone, or a zombie."""
    fields = read_text("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else ""


def living(line: str) -> int:
    """The process of a line "PID STARTTIME" if it still runs, else 0."""
    pid, _, began = line.partition(" ")
    return int(pid) if pid.isdigit() and began and start_time(int(pid)) == began else 0


def tailored(config: Dict[str, Any], order: Order) -> Dict[str, Any]:
    """A domain's configuration, as libxl keeps it, for where it is to go.

    Placement was done by others, so libxl does none: its memory is to come from its nodes, wherever its vCPUs are.
    """
    build = dict(config.get("b_info") or {})
    build.pop("cpumap", None)
    build["nodemap"] = order.nodes
    build["numa_placement"] = "False"
    for key, value in (("vcpu_hard_affinity", order.hard), ("vcpu_soft_affinity", order.soft)):
        build.pop(key, None)
        if value:
            build[key] = value
    build["sched_params"] = dict(build.get("sched_params") or {}, weight=order.weight, cap=order.cap_percent)
    created = dict(config.get("c_info") or {}, name=order.domain, uuid=order.uuid)
    if order.cpupool:
        created["pool_name"] = order.cpupool
    return dict(config, b_info=build, c_info=created)


def read_exactly(descriptor: int, size: int) -> bytes:
    """So many bytes; raises `Stop` where it ends before."""
    parts = []
    while size > 0:
        part = os.read(descriptor, size)
        if not part:
            raise Stop("failed", "xl ended before it sent the configuration")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def tailored_head(descriptor: int, order: Order) -> bytes:
    """Read the head of what xl saves or sends, and give it with the configuration that the domain is to have."""
    magic, byte_order, flags, optional_flags, length = HEADER.unpack(read_exactly(descriptor, HEADER.size))
    if byte_order != BYTE_ORDER or not flags & JSON_FLAG or not 4 <= length <= MOST_CONFIG_BYTES:
        raise Stop("failed", "xl sends a domain in a form that is not known here")
    optional = read_exactly(descriptor, length)
    (size,) = struct.unpack("=I", optional[:4])
    config = json.loads(optional[4 : 4 + size].rstrip(b"\0").decode("utf-8"))
    if config["c_info"]["uuid"] != order.uuid:
        raise Stop("failed", "xl sends another domain, of UUID %s" % config["c_info"]["uuid"])
    text = json.dumps(tailored(config, order)).encode("utf-8") + b"\0"
    rest = optional[4 + size :]
    changed = struct.pack("=I", len(text)) + text + rest
    return HEADER.pack(magic, byte_order, flags, optional_flags, len(changed)) + changed


class Mover:
    """Carries one order out, from wherever it stands."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(self.path("order"), encoding="utf-8") as file:
            self.order = Order(**json.load(file))
        self.xen = Xen()
        self.saved = os.path.join(SAVE_DIR, self.order.uuid + ".save")

    def path(self, name: str) -> str:
        """A file of the order's folder."""
        return os.path.join(self.folder, name)

    def tell(self, stage: str, done_mib: float) -> None:
        """How far it is."""
        write(
            self.folder, "progress", "%s %d %d\n" % (stage, min(done_mib, self.order.memory_mib), self.order.memory_mib)
        )

    def stage(self) -> str:
        """Where the one before us was."""
        return read_text(self.path("progress")).partition(" ")[0]

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants it to end."""
        return os.path.exists(self.path("cancel"))

    def last_words(self) -> str:
        """What xl gave as the reason: of its many lines the first error is the cause."""
        lines = [line for line in read_text(self.path("log")).split("\n") if line.strip()]
        errors = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
        return (errors or lines or ["it said nothing"])[0][:400]

    # -- the domain ----------------------------------------------------------------------------------------------

    def rows(self) -> Dict[str, Row]:
        """The domain's copies by name: its own, with "--incoming" and with "--migratedaway"."""
        return {row.name: row for row in self.xen.rows(self.order.uuid)}

    def the(self) -> Row:
        """The domain itself."""
        row = self.rows().get(self.order.domain)
        if row is None:
            raise Stop("failed", "there is no domain %s of UUID %s" % (self.order.domain, self.order.uuid))
        return row

    def xl(self, *arguments: str) -> None:
        """Run xl to its end."""
        self.work(list(arguments), lambda: None)

    def work(self, arguments: List[str], meanwhile: Callable[[], None]) -> int:
        """Run xl, on file as our worker; its exit status. `meanwhile` is called once, when it has begun."""
        with open(self.path("log"), "ab") as log:
            child = subprocess.Popen(
                [self.order.xl, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(os.environ, LC_ALL="C"),
            )
        write(self.folder, "worker", "%d %s\n" % (child.pid, start_time(child.pid)))
        meanwhile()
        return child.wait()

    def wait_for_worker(self) -> None:
        """Of one of us that was killed, xl may still be at work. Without us nothing flows: it gives up by itself."""
        while living(read_text(self.path("worker"))):
            time.sleep(POLL_S)

    # -- live ----------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Migrate to this host."""
        if self.stage():
            self.settle_live()
            raise Stop("failed", "what moved it was stopped; it runs, see where its memory is")
        row = self.the()
        self.tell("copying", 0)
        came, goes = self.path("came"), self.path("goes")
        for path in (came, goes):
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.mkfifo(path, 0o600)
        receive = "exec 3<&0; cat <&3 >%s 3<&- & exec %s migrate-receive <%s 3<&-" % tuple(
            map(shlex.quote, (came, self.order.xl, goes))
        )
        problem = []  # type: List[str]

        def lead() -> None:
            try:
                self.lead(came, goes)
            except Stop as stop:
                problem.append(stop.why)

        status = self.work(["migrate", "-s", "", str(row.id), receive], lead)
        self.settle_live()
        if status != 0:
            raise Stop("failed", problem[0] if problem else self.last_words())

    def lead(self, came: str, goes: str) -> None:
        """Pass on what xl sends, its head changed, at no more than the rate for the first time that memory goes by.

        Closing our end is how a move is given up: the receiver ends its half of the domain, the sender goes on.
        """
        # the sender says nothing before it has heard from the receiver, which waits for our end
        sink = self.open_fifo(goes, os.O_WRONLY)
        source = self.open_fifo(came, os.O_RDONLY)
        try:
            os.set_blocking(source, True)
            os.set_blocking(sink, True)
            begun, sent = time.monotonic(), 0
            send(sink, tailored_head(source, self.order))
            told = begun
            while True:
                block = os.read(source, BLOCK)
                if not block:
                    return
                send(sink, block)
                sent += len(block)
                now = time.monotonic()
                if now - told > POLL_S:
                    told = now
                    self.tell("copying", sent / (1 << 20))
                    if self.cancelled:
                        raise Stop("failed", "it was called off")
                ahead_s = sent / (1 << 20) / self.order.rate_mib_s - (now - begun) if self.order.rate_mib_s else 0.0
                if ahead_s > PACE_S and sent < self.order.memory_mib << 20:
                    time.sleep(ahead_s)
        finally:
            os.close(source)
            os.close(sink)

    def open_fifo(self, path: str, mode: int) -> int:
        """Our end of a pipe that xl's side has the other of; `Stop` if xl ends before it opens it."""
        while True:
            try:
                descriptor = os.open(path, mode | os.O_NONBLOCK)
            except OSError:
                # for writing, as long as nobody reads
                descriptor = -1
            if descriptor >= 0 and (mode == os.O_WRONLY or self.writer_there(descriptor)):
                return descriptor
            if not living(read_text(self.path("worker"))):
                raise Stop("failed", self.last_words())
            time.sleep(POLL_S / 4)

    def writer_there(self, descriptor: int) -> bool:
        """Whether something can be read from a pipe: until somebody writes it looks as if it had ended."""
        import select  # noqa: PLC0415

        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        while living(read_text(self.path("worker"))):
            events = poller.poll(1000 * POLL_S)
            if events and events[0][1] & select.POLLIN:
                return True
        raise Stop("failed", self.last_words())

    def settle_live(self) -> None:
        """After xl has ended, however it did: exactly one copy, under its own name, and running.

        The receiver takes the domain's name before it lets it run: a copy that is still called "--incoming" never ran.
        """
        rows = self.rows()
        name = self.order.domain
        here, away, incoming = rows.get(name), rows.get(name + "--migratedaway"), rows.get(name + "--incoming")
        if incoming is not None:
            self.xl("destroy", str(incoming.id))
        if away is not None and here is not None:
            self.xl("destroy", str(away.id))
        elif away is not None:
            self.xl("rename", str(away.id), name)
            here = away
        if here is None:
            raise Stop("lost", "no domain of UUID %s is there any more" % self.order.uuid)
        if here.suspended:
            self.xen.resume(here.id)
        elif here.paused and away is not None:
            self.xl("unpause", str(here.id))

    # -- save and restore ----------------------------------------------------------------------------------------

    def save(self) -> None:
        """Save to a file and restore from it."""
        row = self.rows().get(self.order.domain)
        if row is not None and not (self.stage() == "restoring" and os.path.exists(self.saved)):
            if self.stage():
                # half a file is nothing that anybody could start
                self.drop_file()
            if row.suspended:
                self.xen.resume(row.id)
                raise Stop("failed", "it was stopped while it was saved, and runs again where it was")
            if self.stage():
                raise Stop("failed", "it was stopped before it was saved, and runs where it was")
            os.makedirs(SAVE_DIR, mode=0o700, exist_ok=True)
            self.tell("saving", 0)
            if self.work(["save", str(row.id), self.saved], self.watch_file) != 0:
                after = self.rows().get(self.order.domain)
                if after is not None and after.suspended:
                    self.xen.resume(after.id)
                self.drop_file()
                raise Stop("failed" if after is not None else "lost", self.last_words())
        self.restore()

    def watch_file(self) -> None:
        """How much is saved, until xl ends. The guest stands still meanwhile."""
        while living(read_text(self.path("worker"))):
            with suppress(OSError):
                self.tell("saving", os.stat(self.saved).st_size / (1 << 20) / 2)
            time.sleep(POLL_S)

    def restore(self) -> None:
        """Start it again from the file, on its new nodes; if that fails, wherever Xen has room."""
        if not self.stage():
            self.the()
        if not os.path.exists(self.saved):
            raise Stop("lost", "the domain ended by itself: it was not saved, and it is not there")
        self.tell("restoring", self.order.memory_mib / 2)
        self.end_halves()
        if self.order.domain not in self.rows():
            goes = self.path("goes")
            with suppress(FileNotFoundError):
                os.unlink(goes)
            os.mkfifo(goes, 0o600)
            problem = ""
            try:
                status = self.work(["restore", goes], lambda: self.feed(goes))
            except Stop as stop:
                status, problem = 1, stop.why
                self.wait_for_worker()
            if status != 0:
                problem = problem or self.last_words()
                self.end_halves()
                if self.work(["restore", self.saved], lambda: None) != 0:
                    raise Stop("lost", "%s; it is saved in %s, start it with `xl restore`" % (problem, self.saved))
                self.drop_file()
                raise Stop("failed", problem + "; it runs again, wherever Xen had room")
        self.drop_file()

    def feed(self, goes: str) -> None:
        """Give xl what was saved, its head changed."""
        source = os.open(self.saved, os.O_RDONLY)
        try:
            head = tailored_head(source, self.order)
            sink = self.open_fifo(goes, os.O_WRONLY)
            try:
                os.set_blocking(sink, True)
                send(sink, head)
                sent = 0
                while True:
                    block = os.read(source, BLOCK)
                    if not block:
                        return
                    send(sink, block)
                    sent += len(block)
                    self.tell("restoring", (self.order.memory_mib + sent / (1 << 20)) / 2)
            finally:
                os.close(sink)
        finally:
            os.close(source)

    def end_halves(self) -> None:
        """End what a restore that was cut short has left: it is paused, and has never run."""
        for row in self.xen.rows(self.order.uuid):
            if row.paused:
                self.xl("destroy", str(row.id))

    def drop_file(self) -> None:
        """Remove what was saved."""
        with suppress(FileNotFoundError):
            os.unlink(self.saved)

    # -- balloon -------------------------------------------------------------------------------------------------

    def balloon(self) -> None:
        """Let the guest give free memory back, and take it again from the new nodes."""
        row = self.the()
        whole = self.order.memory_mib
        if self.stage() == "":
            self.xen.set_nodes(row.id, self.order.nodes)
            self.tell("giving back", 0)
            self.xl("mem-set", str(row.id), "%dm" % self.order.least_mib)
            self.follow(lambda kb: kb <= self.order.least_mib << 10)
        # also after a kill: whatever happened, it gets back what it had
        low = self.the().memory_kb
        self.tell("taking", whole / 2)
        self.xl("mem-set", str(row.id), "%dm" % whole)
        self.follow(lambda kb: kb >= (whole << 10) - 1024, patient=True)
        back = self.the().memory_kb
        if back < (whole << 10) - 1024:
            short = "it has taken only %d of %d MiB back so far; its target is all of it" % (back >> 10, whole)
            raise Stop("failed", short)
        if low > (whole << 10) - 1024:
            raise Stop("failed", "the guest gave nothing back within %d s" % self.order.limit_s)

    def follow(self, reached: Callable[[int], bool], patient: bool = False) -> None:
        """Wait until the guest's memory is as wanted, or until nothing has changed for the limit, or called off."""
        last, since = -1, time.monotonic()
        while True:
            memory_kb = self.the().memory_kb
            if reached(memory_kb):
                return
            if memory_kb != last:
                last, since = memory_kb, time.monotonic()
                done = (self.order.memory_mib << 10) - memory_kb
                share = done if not patient else (self.order.memory_mib - self.order.least_mib << 10) * 2 - done
                span = max((self.order.memory_mib - self.order.least_mib << 10) * 2, 1)
                self.tell("taking" if patient else "giving back", self.order.memory_mib * share / span)
            if time.monotonic() - since > self.order.limit_s or (self.cancelled and not patient):
                return
            time.sleep(POLL_S)

    # -- all -----------------------------------------------------------------------------------------------------

    def run(self) -> Stop:
        """Do it, from where it stands; how it ended."""
        try:
            if self.stage():
                self.wait_for_worker()
            {"live": self.live, "save": self.save, "balloon": self.balloon}[self.order.way]()
        except Stop as stop:
            return stop
        except Exception as error:  # whoever asked has to hear of it, whatever it is
            return Stop("failed", "%s: %s" % (type(error).__name__, error))
        return Stop("moved", "")


def send(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def main() -> None:
    """Carry out the order of a folder."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # a receiver that ends is told by an error where we write, not by our end
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    folder = sys.argv[1]
    write(folder, "mover", "%d %s\n" % (os.getpid(), start_time(os.getpid())))
    try:
        stop = Mover(folder).run()
    except Exception as error:  # an order that makes no sense, no way to Xen: it must not be tried for ever
        stop = Stop("failed", "%s: %s" % (type(error).__name__, error))
    write(folder, "result", json.dumps({"ended": stop.ended, "why": stop.why}) + "\n")


if __name__ == "__main__":
    main()
