"""An `xl` without Xen: domains in a file beside it, printed as tools/xl of Xen 4.17 prints them.

`state` holds the host, `behaviour` what a test wants to go wrong (both marshalled: this starts hundreds of times, and
json alone would double what that takes), `calls.log` a line per call.
behaviour: {"create": {"before_s", "after_s", "complain", "status", "keep"}, "<other command>": {"before_s", "complain",
"status", "print"}}. A `create` registers the domain after `before_s`, and ends after `after_s` more.
"""

# ruff: noqa: PTH100, PTH104, PTH120, PTH123
# (pathlib would double it again)

import fcntl
import marshal
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HERE = os.path.dirname(os.path.abspath(sys.argv[0]))
NODES = 4
CPUS = 8
NODE_MIB = 2048
DISTANCES = ("10,16,22,22", "16,10,22,22", "22,22,10,16", "22,22,16,10")


class State:
    """The host's state, locked, and written back."""

    def __enter__(self) -> "dict[str, Any]":
        self.lock = os.open(HERE + "/state.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        with open(HERE + "/state", "rb") as file:
            found: dict[str, Any] = marshal.load(file)
        self.found = found
        return found

    def __exit__(self, *_: object) -> None:
        with open(HERE + "/state.new", "wb") as file:
            marshal.dump(self.found, file)
        os.rename(HERE + "/state.new", HERE + "/state")
        os.close(self.lock)


def behaviour(command: str) -> "dict[str, Any]":
    """What a test wants of this command."""
    try:
        with open(HERE + "/behaviour", "rb") as file:
            wanted: dict[str, Any] = marshal.load(file).get(command, {})
    except FileNotFoundError:
        return {}
    return wanted


def print_list(domains: "list[dict[str, Any]]", verbose: bool, claim: bool = False) -> None:
    head = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
    if verbose:
        head += "   UUID                            Reason-Code\tSecurity Label"
    if claim:
        head += "  Claimed"
    if verbose and "-c" in sys.argv:
        head += "         Cpupool NODE Affinity"
    print(head)
    for d in domains:
        flags = f"-{'-' if d['paused'] else 'b'}{'p' if d['paused'] else '-'}--{'d' if d.get('dying') else '-'}"
        row = f"{d['name']:<40} {d['id']:5d} {d['memory']:5d} {d['vcpus']:5d}     {flags}  {d['time']:8.1f}"
        if verbose:
            row += f" {d['uuid']} {'-':>8} {'-':>16}"
        if claim:
            row += f" {d.get('claimed', 0):5d}"
        if verbose and "-c" in sys.argv:
            row += f"{d.get('pool', 'Pool-0'):>16} {d.get('nodes', 'all')}"
        print(row)


def print_vcpus(domains: "list[dict[str, Any]]") -> None:
    print(f"{'Name':<32} {'ID':>5} {'VCPU':>5} {'CPU':>5} {'State':>5} {'Time(s)':>9} Affinity (Hard / Soft)")
    for d in domains:
        for v in range(d["vcpus"]):
            hard, soft = d["affinity"].get(str(v), ["all", d.get("soft", "all")])
            print(f"{d['name']:<32} {d['id']:5d} {v:5d} {v % CPUS:5d} {'-':>3}b- {d['time']:9.1f}  {hard} / {soft}")


def print_info(domains: "list[dict[str, Any]]") -> None:
    print("host                   : fake\nmachine                : x86_64")
    print(f"nr_cpus                : {CPUS}\nmax_cpu_id             : {CPUS - 1}\nnr_nodes               : {NODES}")
    print("cores_per_socket       : 2\nthreads_per_core       : 1")
    free = [NODE_MIB - sum(d["memory"] - d.get("claimed", 0) for d in domains if d["node"] == n) for n in range(NODES)]
    claimed = sum(d.get("claimed", 0) for d in domains)
    print(f"total_memory           : {NODES * NODE_MIB}\nfree_memory            : {sum(free) - claimed}")
    print(f"outstanding_claims     : {claimed}\nfree_cpus              : 0")
    print("cpu_topology           :\ncpu:    core    socket     node")
    for c in range(CPUS):
        print(f"{c:3d}:    {c % 2:4d}     {c // 2:4d}     {c // 2:4d}")
    print("device topology        :\ndevice           node\n0000:41:00.0      1")
    print("numa_info              :\nnode:    memsize    memfree    distances")
    for n in range(NODES):
        print(f"{n:4d}:    {NODE_MIB:6d}     {free[n]:6d}      {DISTANCES[n]}")
    print("xen_major              : 4\nxen_minor              : 17\nxen_version            : 4.17.7")
    print("xen_commandline        : placeholder dom0_mem=1G,max:1G loglvl=all")
    print("xen_scheduler          : credit2\nxend_config_format     : 4")


def dump(found: "dict[str, Any]") -> None:
    """Debug key u: append a dump to the console."""
    found["now"] += 1_000_000
    lines = [f"'u' pressed -> dumping numa info (now = {found['now']})"]
    lines += [f"NODE{n} start->{n * 524288} size->524288 free->1000" for n in range(NODES)]
    lines += ["CPU0...1 -> NODE0", "Memory location of each domain:"]
    for d in found["domains"]:
        lines.append(f"Domain {d['id']} (total: {d['memory'] * 256}):")
        lines += [f"    Node {n}: {d['memory'] * 256 if n == d['node'] else 0}" for n in range(NODES)]
    found["console"] += [f"(XEN) {line}" for line in lines]


def unquoted(value: str) -> str:
    """A string of `xl.cfg` without its quotes and backslashes."""
    if value[:1] not in ("'", '"'):
        return value
    return value[1:-1].replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")


def create(argv: list[str]) -> int:
    with open(argv[-1], encoding="utf-8") as file:
        lines = [line.partition("=") for line in file.read().split("\n")]
    wanted = behaviour("create")
    time.sleep(wanted.get("before_s", 0))
    settings = {key.strip(): value.strip() for key, _, value in lines}
    settings = {key: unquoted(value) for key, value in settings.items()}
    if wanted.get("status") and not wanted.get("keep"):
        print(wanted.get("complain", ""), file=sys.stderr)
        return int(wanted["status"])
    with State() as found:
        if any(d["name"] == settings["name"] for d in found["domains"]):
            print(
                f'libxl: error: libxl_create.c:1:x: Domain with name "{settings["name"]}" already exists',
                file=sys.stderr,
            )
            return 1
        found["last_id"] += 1
        found["domains"].append(
            {
                "id": found["last_id"],
                "name": settings["name"],
                "uuid": settings.get("uuid", f"00000000-0000-4000-8000-{found['last_id']:012d}"),
                "memory": int(settings.get("memory", 128)),
                "vcpus": int(settings.get("vcpus", 1)),
                "node": int(settings.get("node", 1)),
                "paused": True,
                "time": 0.0,
                "affinity": {},
                "type": settings.get("type", "pv"),
            }
        )
    time.sleep(wanted.get("after_s", 0))
    if wanted.get("complain"):
        print(wanted["complain"], file=sys.stderr)
    return int(wanted.get("status", 0))


def details(domains: "list[dict[str, Any]]") -> None:
    listed = [
        {
            "domid": d["id"],
            "config": {
                "c_info": {"type": d["type"], "name": d["name"], "uuid": d["uuid"]},
                "b_info": {"max_memkb": d["memory"] * 1024, "sched_params": {"weight": 512}},
                "pcidevs": d.get("pcidevs", []),
            },
        }
        for d in domains
    ]
    import json  # noqa: PLC0415  (the one command that needs it)

    print(json.dumps(listed, indent=4))


def change(command: str, argv: list[str]) -> int:
    with State() as found:
        target = next((d for d in found["domains"] if str(d["id"]) == argv[0] or d["name"] == argv[0]), None)
        if target is None:
            print(f"{argv[0]} is an invalid domain identifier (rc=-6)", file=sys.stderr)
            return 1
        if command == "unpause":
            target["paused"] = False
        elif command == "destroy":
            found["domains"].remove(target)
        elif command == "mem-set":
            target["memory"] = int(argv[1].rstrip("m"))
        else:
            before = target["affinity"].get(argv[1], ["all", target.get("soft", "all")])
            target["affinity"][argv[1]] = [b if a == "-" else a for a, b in zip(argv[2:], before, strict=True)]
    return 0


def print_pools(found: "dict[str, Any]") -> None:
    pools = found.get("pools", {"Pool-0": list(range(CPUS))})
    print(f"{'Name':<19}" + ("CPU list" if "-c" in sys.argv else "CPUs   Sched     Active   Domain count"))
    for name, cpus in pools.items():
        count = f"{len(cpus):3d} {'credit2':>9}       y       {1:4d}"
        print(f"{name:<19}" + (",".join(map(str, cpus)) if "-c" in sys.argv else count))


def show(command: str, argv: list[str]) -> int:
    """The commands that change nothing (but for the console)."""
    with State() as found:
        domains = found["domains"]
        commands = {
            "debug-keys": lambda: dump(found),
            "dmesg": lambda: print("\n".join(found["console"])),
            "list": lambda: details(domains) if "-l" in argv else print_list(domains, "-v" in argv),
            "claims": lambda: print_list(domains, False, claim=True),
            "vcpu-list": lambda: print_vcpus(domains),
            "info": lambda: print_info(domains),
            "cpupool-list": lambda: print_pools(found),
        }
        if command not in commands:
            print(f"xl: unknown command {command}", file=sys.stderr)
            return 1
        commands[command]()
    return 0


def main() -> int:
    command, argv = sys.argv[1], sys.argv[2:]
    with open(HERE + "/calls.log", "a", encoding="utf-8") as log:
        log.write(repr([command, *argv]) + "\n")
    if command == "create":
        return create(argv)
    wanted = behaviour(command)
    time.sleep(wanted.get("before_s", 0))
    if "complain" in wanted:
        print(wanted["complain"], file=sys.stderr)
    if "print" in wanted or wanted.get("status"):
        sys.stdout.write(wanted.get("print", ""))
        return int(wanted.get("status", 0))
    return change(command, argv) if command in ("unpause", "destroy", "vcpu-pin", "mem-set") else show(command, argv)


if __name__ == "__main__":
    sys.exit(main())
