"""A fake Dom0 (a folder with an `xl` of our own on PATH), and a real sshd on loopback that leads to it."""

from __future__ import annotations

import ast
import getpass
import marshal
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import missing

from domicile.hosts.xen.channel import Runtime
from domicile.hosts.xen.host import XenHost, open_xen
from domicile.hosts.xen.transport import LocalTransport, SshTransport, Transport

DOM0 = {
    "id": 0,
    "name": "Domain-0",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "memory": 1024,
    "vcpus": 8,
    "node": 3,
    "paused": False,
    "time": 12.3,
    "affinity": {},
    "type": "pv",
}


class FakeDom0:
    """The folder, and what a test asks of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.run = folder / "run"
        self._calls_seen = 0
        self.bin.mkdir()
        # an import, so that the byte code is kept
        start = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import fake_xl; sys.exit(fake_xl.main())"
        )
        (self.bin / "xl").write_text(f"#!{sys.executable} -SE\n{start}\n")
        (self.bin / "xl").chmod(0o755)
        self.write({"domains": [DOM0], "last_id": 0, "now": 1000, "console": ["(XEN) Xen version 4.17.7"]})

    @property
    def environment(self) -> dict[str, str]:
        """What a shell in this Dom0 has."""
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "DOMICILE_RUN_DIR": str(self.run),
            "DOMICILE_LEASE_S": "3",
            "DOMICILE_PCI_DIR": str(self.folder / "pci"),
            "DOMICILE_SRAT": str(self.folder / "SRAT"),
        }

    def read(self) -> dict[str, Any]:
        """The host's state."""
        found: dict[str, Any] = marshal.loads((self.bin / "state").read_bytes())
        return found

    def write(self, state: dict[str, Any]) -> None:
        """Replace the host's state."""
        (self.bin / "state").write_bytes(marshal.dumps(state))

    def add(self, **domain: Any) -> None:
        """Put a domain there as another tool would."""
        state = self.read()
        state["last_id"] += 1
        number = state["last_id"]
        uuid = f"11111111-0000-4000-8000-{number:012d}"
        state["domains"].append({**DOM0, "id": number, "uuid": uuid, "memory": 64, "vcpus": 2, "node": 1, **domain})
        self.write(state)

    def plug_in(self, address: str, code: str, *, assignable: bool = False) -> None:
        """A PCI device as Linux shows it."""
        device = self.folder / "pci" / "devices" / address
        device.mkdir(parents=True)
        (device / "class").write_text(code + "\n")
        if assignable:
            (self.folder / "pci" / "drivers" / "pciback" / address).mkdir(parents=True)

    def names(self) -> list[str]:
        """The domains' names."""
        return [domain["name"] for domain in self.read()["domains"]]

    def behave(self, **commands: dict[str, Any]) -> None:
        """Make commands misbehave."""
        named = {name.replace("_", "-"): wanted for name, wanted in commands.items()}
        (self.bin / "behaviour").write_bytes(marshal.dumps(named))

    def calls(self) -> list[list[str]]:
        """The commands that were run since this was last asked."""
        log = self.bin / "calls.log"
        if not log.exists():
            return []
        # whole lines: another may be on its way into the file
        lines = log.read_text().split("\n")[:-1]
        fresh, self._calls_seen = lines[self._calls_seen :], len(lines)
        return [ast.literal_eval(line) for line in fresh]

    def transport(self) -> Transport:
        """A way into it without SSH."""
        return HereTransport(self.environment)

    def open(self, runtime: Runtime | None = None) -> XenHost:
        """A host on it."""
        return open_xen("xen:///", self.transport(), runtime)

    def left_behind(self) -> list[str]:
        """Files that say somebody promised or is building something."""
        folders = [self.run / "reservations", self.run / "building"]
        return [path.name for folder in folders if folder.exists() for path in folder.iterdir()]

    def wait_for(self, what: Any, limit_s: float = 90.0) -> None:
        """Wait until `what()` is true."""
        deadline = time.monotonic() + limit_s
        while not what():
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.02)


class HereTransport(LocalTransport):
    """`LocalTransport` with an environment of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__()
        object.__setattr__(self, "words", tuple(f"{key}={value}" for key, value in environment.items()))

    def argv(self, command: str) -> list[str]:
        return ["/usr/bin/env", *getattr(self, "words"), *super().argv(command)]  # noqa: B009


@pytest.fixture
def dom0(tmp_path: Path) -> FakeDom0:
    """A fake Dom0 with Dom0 alone in it."""
    return FakeDom0(tmp_path)


@pytest.fixture(params=[Runtime.PYTHON, Runtime.SHELL])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Both ways to carry requests out."""
    found: Runtime = request.param
    return found


@pytest.fixture
def sshd(tmp_path: Path, dom0: FakeDom0) -> Iterator[SshTransport]:
    """A real sshd on loopback that leads into the fake Dom0; its process id is in `sshd.pid`."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
    if program is None or shutil.which("ssh") is None:
        missing("no sshd here (Debian: openssh-server)")
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    (folder / "authorized").chmod(0o600)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = " ".join(f'"{key}={value}"' for key, value in dom0.environment.items())
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/sshd.pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        f"PermitRootLogin yes\nSetEnv {environment}\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = (folder / "log").open("wb")
    server = subprocess.Popen([program, "-D", "-e", "-f", folder / "config"], stdout=log, stderr=log)
    try:
        key = (folder / "host.pub").read_text().split()
        (folder / "known").write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        client = folder / "client"
        client.write_text(
            f"Host *\nUserKnownHostsFile {folder}/known\nIdentityFile {folder}/user\nIdentitiesOnly yes\n"
            f"Port {port}\nUser {getpass.getuser()}\n"
        )
        from domicile.hosts.xen.address import SshAddress  # noqa: PLC0415
        from domicile.hosts.xen.transport import ssh_argv  # noqa: PLC0415

        argv = list(ssh_argv(SshAddress("127.0.0.1")))
        argv[1:1] = ["-F", str(client)]
        yield SshTransport("127.0.0.1", tuple(argv))
    finally:
        server.terminate()
        server.wait()
        log.close()
