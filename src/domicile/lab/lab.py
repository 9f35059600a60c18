"""A running lab, and how one is started.

    with Lab.start(load_machine("4node")) as lab:
        print(lab.run(["xl", "info", "-n"]).stdout)

A lab that was started so ends with its block, and with its starter however that ends; `keep()` lets it live on, to be
found again with `Lab.find(name)`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from domicile.errors import BadInput, HostFailed
from domicile.lab import console, folder, qmp, states
from domicile.lab.cache import locked
from domicile.lab.image import Image, ensure
from domicile.lab.machine import Machine
from domicile.lab.programs import RUNNING, require
from domicile.lab.progress import Report, silent
from domicile.lab.qemu import qemu_argv

__all__ = ["Lab"]

BOOT_TIMEOUT_S = 600
"""A boot takes under a minute alone on two cores; a busy computer or a plug-in takes a multiple."""
LOAD_TIMEOUT_S = 180
CONNECT_TIMEOUT_S = 90
SSH_FAILED = 255
FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\S+\s+127\.0\.0\.1\s+(\d+)\s")


class _RunState(msgspec.Struct):
    """`query-status`'s answer."""

    status: str


_numbers = itertools.count(1)


class Lab:
    """A real Xen on an emulated NUMA machine, running in QEMU. `machine` says what it has, `name` how it is found."""

    def __init__(self, place: Path, record: folder.Record, pipe: int | None = None) -> None:
        self.folder = place
        self._record = record
        self._pipe = pipe
        self._kept = False

    # ------------------------------------------------------------------------------------------------ starting

    @classmethod
    def start(
        cls,
        machine: Machine,
        *,
        name: str | None = None,
        machine_name: str = "",
        plugins: Sequence[str] = (),
        fresh: bool = True,
        boot: bool = False,
        report: Report = silent,
    ) -> Lab:
        """Start a lab, building the image and the saved state first where there are none.

        It starts from the saved state of its machine, in seconds; with `boot` it boots. `plugins` are values of QEMU's
        `-plugin` (a path and its arguments). `fresh=False` takes the running lab of that name, if there is one.
        Raises `BadInput` for a name that is taken, `HostFailed` where it cannot be started.
        """
        if not fresh and name is not None:
            with contextlib.suppress(BadInput):
                return cls.find(name)
        require(RUNNING)
        name = folder.check_name(name or f"lab-{os.getpid()}-{next(_numbers)}")
        _require_not_running(name)
        image = ensure(report)
        state = None if boot else states.ensure_state(image, machine, machine_name, report)
        place = _new_folder(name)
        record = folder.Record(name, machine_name, machine, image.key, time.time())
        report("starting Xen", 0.0)
        return cls.launch(place, record, image, state=state, plugins=plugins, report=report)

    @classmethod
    def launch(
        cls,
        place: Path,
        record: folder.Record,
        image: Image,
        *,
        state: states.SavedState | None,
        plugins: Sequence[str] = (),
        report: Report = silent,
    ) -> Lab:
        """Start QEMU in an empty folder and wait for Dom0. The folder is gone if that fails."""
        lab = cls(place, record)
        try:
            _fill(place, image, state)
            incoming = None if state is None else states.INCOMING
            argv = qemu_argv(
                record.machine,
                qemu=require(RUNNING)["qemu-system-x86_64"],
                name=record.name,
                incoming=incoming,
                plugins=[_absolute(plugin) for plugin in plugins],
            )
            folder.write_record(place, record)
            lab._pipe = folder.launch(place, argv)
            lab._wait_for_dom0(loading=state is not None, report=report)
        except HostFailed as error:
            log = folder.keep_log(place, record.name)
            lab.stop()
            raise HostFailed(f"{error}; what it said is in {log}") from error
        except BaseException:
            lab.stop()
            raise
        return lab

    @classmethod
    def find(cls, name: str) -> Lab:
        """The running lab of that name. Raises `BadInput`, saying which there are, if there is none."""
        place = folder.state_folder() / "labs" / folder.check_name(name)
        record = folder.read_record(place)
        if record is None or not folder.is_running(place):
            running = [lab.name for lab in cls.all_running()]
            have = f"running are {', '.join(running)}" if running else "none is running"
            raise BadInput(name, f"no lab of that name is running ({have}); `domicile lab up {name}` starts one")
        if not record.ssh_port:
            raise HostFailed(f"the lab {name} is still starting; wait for its `domicile lab up`")
        return cls(place, record)

    @classmethod
    def all_running(cls) -> list[Lab]:
        """All labs of this user that run, by name."""
        places = [place for place in folder.lab_folders() if folder.is_running(place)]
        return [cls(place, record) for place in places if (record := folder.read_record(place)) is not None]

    # -------------------------------------------------------------------------------------------------- ending

    def keep(self) -> None:
        """Let it live on when its starter ends."""
        if self._pipe is not None:
            os.write(self._pipe, folder.KEEP)
            os.close(self._pipe)
            self._pipe = None
        self._kept = True

    def stop(self) -> None:
        """End it and remove what it wrote. One that has ended already is no error."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
            folder.wait_until_ended(self.folder)
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            folder.end(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._kept:
            self.stop()

    # ----------------------------------------------------------------------------------------------- what it is

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def machine(self) -> Machine:
        """The machine it runs on; `machine.memory_ranges` says where each node's memory is."""
        return self._record.machine

    @property
    def record(self) -> folder.Record:
        """All that is written down about it."""
        return self._record

    @property
    def ssh_port(self) -> int:
        """The port of Dom0's sshd on 127.0.0.1."""
        return self._record.ssh_port

    def console_tail(self, lines: int = 20) -> list[str]:
        """The last lines that Xen and Dom0 wrote to the serial console."""
        return console.read_console(self.folder / "console.log").splitlines()[-lines:]

    # ------------------------------------------------------------------------------------------------- using it

    def ssh_argv(self) -> list[str]:
        """OpenSSH's arguments up to and with the host: a command to run in Dom0 can follow.

        The lab's own key and host key are used, and no configuration of the user's.
        """
        options = {
            "BatchMode": "yes",
            "CheckHostIP": "no",
            "ConnectTimeout": str(CONNECT_TIMEOUT_S),
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": "lab",
            "IdentitiesOnly": "yes",
            "IdentityFile": _ssh_path(self.folder / "user_key"),
            # the quickest where every instruction is emulated; both ends have all of them
            "Ciphers": "chacha20-poly1305@openssh.com,aes128-ctr",
            "KexAlgorithms": "curve25519-sha256",
            "LogLevel": "ERROR",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": _ssh_path(self.folder / "known_hosts"),
        }
        argv = ["ssh", "-F", "/dev/null", "-p", str(self.ssh_port)]
        for option, value in options.items():
            argv += ["-o", f"{option}={value}"]
        return [*argv, "root@127.0.0.1"]

    def run(
        self,
        command: Sequence[str] | str,
        *,
        input: str | bytes | None = None,  # noqa: A002 (subprocess calls it so)
        timeout_s: float | None = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in Dom0: a list is one program and its arguments, a string is a script for its shell.

        Returns its exit status and what it printed, whatever the status. Raises `HostFailed` if Dom0 cannot be reached
        or the command takes longer than `timeout_s`.
        """
        script = command if isinstance(command, str) else shlex.join(command)
        given = input.encode() if isinstance(input, str) else input
        try:
            done = subprocess.run(
                [*self.ssh_argv(), script],
                input=given if given is not None else b"",
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise HostFailed(f"lab {self.name}: {_short(script)} took more than {timeout_s:.0f} s in Dom0") from error
        out, said = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode == SSH_FAILED:
            raise HostFailed(f"lab {self.name}: Dom0 cannot be reached: {said.strip() or 'the connection broke'}")
        return subprocess.CompletedProcess(script, done.returncode, out, said)

    # ---------------------------------------------------------------------------------------- making it difficult

    def reboot(self, *, wait: bool = True) -> None:
        """Dom0 reboots, and Xen with it, as an administrator would do it. All guests are gone."""
        since = self._console_size()
        with contextlib.suppress(HostFailed):  # the connection may end before the command does
            self.run(["reboot"], timeout_s=60)
        if wait:
            self._wait_for_boot(since, silent)

    def reset(self, *, wait: bool = True) -> None:
        """The machine's reset button: everything stops in the middle and boots."""
        since = self._console_size()
        qmp.execute(self._monitor, "system_reset")
        if wait:
            self._wait_for_boot(since, silent)

    def cut_network(self) -> None:
        """Pull Dom0's network cable: connections hang, new ones get no answer."""
        qmp.execute(self._monitor, "set_link", {"name": "nic", "up": False})

    def restore_network(self) -> None:
        """Plug it in again."""
        qmp.execute(self._monitor, "set_link", {"name": "nic", "up": True})

    # -------------------------------------------------------------------------------------------------- waiting

    @property
    def _monitor(self) -> Path:
        return self.folder / "qmp.sock"

    def _console_size(self) -> int:
        return (self.folder / "console.log").stat().st_size

    def _wait_for_dom0(self, *, loading: bool, report: Report) -> None:
        """Wait until QEMU runs, Dom0 is up and lets us in; note the port."""
        self._wait_for_monitor()
        if loading:
            self._wait_for_state()
        self._record = msgspec.structs.replace(self._record, ssh_port=self._find_port())
        if not loading:
            self._wait_for_boot(0, report)
        self._greet_dom0()
        folder.write_record(self.folder, self._record)

    def _greet_dom0(self) -> None:
        """Wait until sshd lets us in, and set the clock: a saved state's stands where it was saved."""
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while True:
            try:
                done = self.run(["date", "-u", "-s", f"@{time.time():.0f}"], timeout_s=CONNECT_TIMEOUT_S)
            except HostFailed:
                self._require_alive()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                break
        if done.returncode:
            raise HostFailed(f"lab {self.name}: Dom0's clock cannot be set: {done.stderr.strip()}")

    def _wait_for_monitor(self) -> None:
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while True:
            self._require_alive()
            try:
                qmp.execute(self._monitor, "query-status")
            except HostFailed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _wait_for_state(self) -> None:
        """QEMU is in `inmigrate` while it loads a state, and then paused, as it was when it was saved."""
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while self._run_state() == "inmigrate":
            self._require_alive()
            if time.monotonic() > deadline:
                raise HostFailed(f"lab {self.name}: the saved state was not loaded within {LOAD_TIMEOUT_S} s")
            time.sleep(0.05)
        qmp.execute(self._monitor, "cont")

    def _run_state(self) -> str:
        answer = qmp.execute(self._monitor, "query-status", timeout_s=LOAD_TIMEOUT_S)
        return msgspec.json.decode(answer, type=_RunState).status

    def _find_port(self) -> int:
        found = FORWARD.search(qmp.monitor_command(self._monitor, "info usernet"))
        if not found:
            raise HostFailed(f"lab {self.name}: QEMU does not say which port leads to Dom0")
        return int(found[1])

    def _wait_for_boot(self, since: int, report: Report) -> None:
        started = time.monotonic()
        while True:
            self._require_alive()
            text = console.read_console(self.folder / "console.log", since)
            if console.has_come_up(text):
                return
            lines = " | ".join(console.telling_lines(text)) or "nothing on the console"
            if console.trouble(text):
                raise HostFailed(f"lab {self.name} did not boot: {lines}")
            taken = time.monotonic() - started
            if taken > BOOT_TIMEOUT_S:
                raise HostFailed(f"lab {self.name} did not boot within {BOOT_TIMEOUT_S} s; last it said: {lines}")
            report("booting Xen and Dom0", min(taken / 60, 0.99))
            time.sleep(0.1)

    def _require_alive(self) -> None:
        ended = folder.ended(self.folder)
        if ended is not None:
            said = ended.said.splitlines()[-1:] or console.telling_lines(
                console.read_console(self.folder / "console.log")
            )
            raise HostFailed(f"lab {self.name}: QEMU ended with status {ended.status}: {' | '.join(said)}")


def _ssh_path(path: Path) -> str:
    """A path as an option's value: ssh splits at spaces and replaces what follows a %."""
    return '"' + str(path).replace("%", "%%") + '"'


def _short(script: str) -> str:
    return repr(script if len(script) <= 60 else script[:57] + "...")


def _absolute(plugin: str) -> str:
    """A `-plugin` value with its file's path made absolute: QEMU runs in the lab's folder."""
    path, comma, arguments = plugin.partition(",")
    return str(Path(path).absolute()) + comma + arguments


def _require_not_running(name: str) -> None:
    place = folder.state_folder() / "labs" / name
    if folder.is_running(place):
        raise BadInput(name, f"a lab of that name is running; `domicile lab down {name}` ends it, or give another name")


def _new_folder(name: str) -> Path:
    """An empty folder for a new lab; what is left of an old one of that name is cleared away."""
    place = folder.state_folder() / "labs" / name
    with locked(folder.state_folder() / "lock"):
        _require_not_running(name)
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True, mode=0o700)
    return place


def _fill(place: Path, image: Image, state: states.SavedState | None) -> None:
    """What QEMU wants to find in the folder: links into image and state, an overlay for the disk, the keys."""
    for file in ("xen", "vmlinux", "initrd.img"):
        (place / file).symlink_to(image.folder / file)
    (place / "image.qcow2").symlink_to(image.disk)
    if state is not None:
        state.link_into(place)
    for secret in (image.user_key, image.known_hosts):
        shutil.copyfile(secret, place / secret.name)
        (place / secret.name).chmod(0o600)
    states.make_overlay(place, "image.qcow2" if state is None else states.DISK)
