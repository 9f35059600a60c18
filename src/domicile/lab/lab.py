"""A running lab.

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
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from domicile.errors import BadInput, HostFailed
from domicile.lab import booting, console, folder, qmp, starting
from domicile.lab.image import ensure
from domicile.lab.machine import Machine
from domicile.lab.programs import RUNNING, require
from domicile.lab.progress import Report, silent
from domicile.lab.ssh import NoConnection, forget_connection, run_in_dom0, ssh_argv
from domicile.lab.stale_code import heal
from domicile.lab.states import ensure_state

__all__ = ["Lab"]

_numbers = itertools.count(1)


class Lab:
    """A real Xen on an emulated NUMA machine, running in QEMU. Use it as a context manager, or `stop()` it."""

    def __init__(self, place: Path, record: folder.Record, pipe: int | None = None) -> None:
        self.folder = place
        self._record = record
        self._pipe = pipe
        self._kept = False

    # ------------------------------------------------------------------------------------- starting and finding

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
        if not fresh and name is not None and folder.is_running(folder.lab_folder(name)):
            return cls.find(name)
        name = folder.check_name(name or f"lab-{os.getpid()}-{next(_numbers)}")
        require(RUNNING)
        starting.require_memory(machine)
        starting.require_not_running(name)
        image = ensure(report)
        state = None if boot else ensure_state(image, machine, machine_name, report)
        place = starting.new_folder(name)
        record = folder.Record(name, machine_name, machine, image.key, time.time())
        report("starting Xen", 0.0)
        return cls(place, *starting.launch(place, record, image, state=state, plugins=plugins, report=report))

    @classmethod
    def find(cls, name: str, *, still_starting: bool = False) -> Lab:
        """The running lab of that name. Raises `BadInput`, saying which there are, if there is none.

        One whose Dom0 is not up yet raises `HostFailed`, unless `still_starting` asks for that too.
        """
        place = folder.lab_folder(name)
        record = folder.read_record(place)
        if record is None or not folder.is_running(place):
            running = [lab.name for lab in cls.all_running()]
            have = f"running are {', '.join(running)}" if running else "none is running"
            raise BadInput(name, f"no lab of that name is running ({have}); `domicile lab up {name}` starts one")
        if not record.ssh_port and not still_starting:
            raise HostFailed(f"the lab {name} is still starting; wait for its `domicile lab up`")
        return cls(place, record)

    @classmethod
    def all_running(cls) -> list[Lab]:
        """All labs of this user that run, by name."""
        places = [place for place in folder.lab_folders() if folder.is_running(place)]
        return [cls(place, record) for place in places if (record := folder.read_record(place)) is not None]

    @classmethod
    def clear_ended(cls) -> list[str]:
        """Clear away labs whose QEMU or keeper is gone; returns a line for each, with where its console log is kept."""
        told = []
        for place in folder.lab_folders():
            record = folder.read_record(place)
            if record is None or folder.is_running(place):
                continue
            why = booting.ended_why(place) or "its keeper was killed"
            log = folder.keep_log(place, record.name)
            shutil.rmtree(place, ignore_errors=True)
            told.append(f"lab {record.name} is gone ({why}) and cleared away; what it said is in {log}")
        return told

    # -------------------------------------------------------------------------------------------------- ending

    def keep(self) -> None:
        """Let it live on when its starter ends. Raises `HostFailed` if it has ended already."""
        if self._pipe is not None:
            pipe, self._pipe = self._pipe, None
            try:
                os.write(pipe, folder.KEEP)
            except BrokenPipeError as error:
                why = booting.ended_why(self.folder) or "its keeper was killed"
                raise HostFailed(f"lab {self.name} has ended: {why}") from error
            finally:
                os.close(pipe)
        self._kept = True

    def stop(self) -> None:
        """End it and remove what it wrote. One that has ended already is no error."""
        pipe, self._pipe = self._pipe, None
        folder.stop(self.folder, pipe)

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
        """The port of Dom0's sshd on 127.0.0.1; 0 while it is starting."""
        return self._record.ssh_port

    # ------------------------------------------------------------------------------------------------- using it

    def ssh_argv(self) -> list[str]:
        """OpenSSH's arguments up to and with the host: a command to run in Dom0 can follow.

        The lab's own key and host key are used, and no configuration of the user's.
        """
        return ssh_argv(self.folder, self.ssh_port)

    def run(
        self,
        command: Sequence[str] | str,
        *,
        input: str | bytes | None = None,  # noqa: A002 (subprocess calls it so)
        timeout_s: float | None = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in Dom0: a list is one program and its arguments, a string is a script for its shell.

        Returns its exit status and what it printed, whatever the status. A Dom0 that does not answer is healed, and
        asked once more. Raises `HostFailed` if it cannot be reached (so it seems too when the command leaves with 255)
        or the command takes longer than `timeout_s`.
        """
        given = input.encode() if isinstance(input, str) else input or b""

        def run_once() -> subprocess.CompletedProcess[str]:
            return run_in_dom0(self.folder, self.ssh_port, command, given=given, timeout_s=timeout_s, name=self.name)

        try:
            return run_once()
        except NoConnection:
            self.heal()
            return run_once()

    # ------------------------------------------------------------------------------------------- looking inside

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """All CPUs stop for as long as the block takes."""
        qmp.execute(self._monitor, "stop")
        try:
            yield
        finally:
            qmp.execute(self._monitor, "cont")

    def read_memory(self, address: int, size: int) -> bytes:
        """So many bytes of the machine's memory from a physical address on. Raises `HostFailed`."""
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="memory-") as file:
            qmp.execute(self._monitor, "pmemsave", {"val": address, "size": size, "filename": file.name})
            return file.read()

    def physical_address(self, cpu: int, virtual: int) -> int | None:
        """Where a virtual address leads by the page tables that a CPU has now; None if nowhere."""
        printed = qmp.monitor_command(self._monitor, f"gva2gpa {virtual:#x}", cpu=cpu)
        found = re.search(r"gpa: (0x[0-9a-f]+)", printed)
        return int(found[1], 16) if found else None

    def heal(self) -> None:
        """Free CPUs that a fault of QEMU's keeps from getting on (`stale_code`); for who has waited for too long."""
        heal(self.folder)

    # ---------------------------------------------------------------------------------------- making it difficult

    def reboot(self, *, wait: bool = True) -> None:
        """Dom0 reboots, and Xen with it, as an administrator would do it. All guests are gone."""
        since = self._console_size()
        with contextlib.suppress(HostFailed):  # the connection may end before the command does
            done = self.run(["reboot"], timeout_s=60)
            if done.returncode:
                raise BadInput(self.name, f"Dom0 does not reboot: {done.stderr.strip()}")
        self._after_restart(since, wait=wait)

    def reset(self, *, wait: bool = True) -> None:
        """The machine's reset button: everything stops in the middle and boots."""
        since = self._console_size()
        qmp.execute(self._monitor, "system_reset")
        self._after_restart(since, wait=wait)

    def cut_network(self) -> None:
        """Pull Dom0's network cable: connections hang, new ones get no answer."""
        forget_connection(self.folder)
        qmp.execute(self._monitor, "set_link", {"name": "nic", "up": False})

    def restore_network(self) -> None:
        """Plug it in again."""
        qmp.execute(self._monitor, "set_link", {"name": "nic", "up": True})

    @property
    def _monitor(self) -> Path:
        return self.folder / "qmp.sock"

    def _console_size(self) -> int:
        return console.size(self.folder / "console.log")

    def _after_restart(self, since: int, *, wait: bool) -> None:
        forget_connection(self.folder)
        if wait:
            booting.wait_for_boot(self.folder, since, silent)
            starting.wait_for_ssh(self.folder, self._record)
