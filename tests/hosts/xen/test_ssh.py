"""Over a real sshd: the same snapshot, host keys that are checked, and reasons that a person understands."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from domicile.errors import HostFailed
from domicile.hosts.actions import CreatePaused, Unpause
from domicile.hosts.xen.channel import Runtime
from domicile.hosts.xen.host import open_xen
from domicile.hosts.xen.transport import SshTransport

if TYPE_CHECKING:
    from tests.hosts.xen.conftest import FakeDom0

URI = "xen+ssh://127.0.0.1/"


def configuration(sshd: SshTransport) -> Path:
    """The client's configuration file."""
    return Path(sshd.arguments[sshd.arguments.index("-F") + 1])


def edited(sshd: SshTransport, before: str, after: str) -> SshTransport:
    """With something else in the client's configuration."""
    path = configuration(sshd)
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    return sshd


def test_the_same_over_ssh(dom0: FakeDom0, sshd: SshTransport, runtime: Runtime) -> None:
    dom0.add(name="$(touch hacked) 'x'")
    with open_xen(URI, sshd, runtime) as host, dom0.open(runtime) as near:
        host.perform(CreatePaused("web", 'name = "web"\n'))
        host.perform(Unpause("web"))
        far_domains = host.snapshot().domains
        assert far_domains == near.snapshot().domains
        assert [domain.name for domain in far_domains] == dom0.names()
    assert not list(dom0.folder.rglob("hacked"))


def test_one_connection_serves_many_requests(dom0: FakeDom0, sshd: SshTransport) -> None:
    with open_xen(URI, sshd) as host:
        for _ in range(3):
            host.snapshot()
    log = (configuration(sshd).parent / "log").read_text()
    assert log.count("Accepted publickey") == 1


def test_a_login_shell_that_talks(dom0: FakeDom0, sshd: SshTransport) -> None:
    noisy = replace(sshd, arguments=(*sshd.arguments, "echo Welcome; echo; echo domicile-pythonic;"))
    with open_xen(URI, noisy) as host:
        assert host.snapshot().domains


@pytest.mark.parametrize("setting", ["", "StrictHostKeyChecking no\n", "StrictHostKeyChecking accept-new\n"])
def test_an_unknown_host_key_is_refused(dom0: FakeDom0, sshd: SshTransport, setting: str) -> None:
    known = configuration(sshd).parent / "known"
    known.write_text("")
    edited(sshd, "Host *\n", f"Host *\n{setting}")
    with pytest.raises(HostFailed, match="host key is not known here; connect once with `ssh` by hand"):
        open_xen(URI, sshd)
    assert known.read_text() == ""


def test_a_changed_host_key_is_refused(dom0: FakeDom0, sshd: SshTransport) -> None:
    known = configuration(sshd).parent / "known"
    other = (configuration(sshd).parent / "user.pub").read_text().split()[1]
    known.write_text(" ".join([*known.read_text().split()[:2], other]) + "\n")
    with pytest.raises(HostFailed, match="not the one known for it") as caught:
        open_xen(URI, sshd)
    assert "\n" not in str(caught.value)


def test_no_key_that_opens(dom0: FakeDom0, sshd: SshTransport) -> None:
    edited(sshd, "IdentityFile ", "IdentityFile /nowhere")
    with pytest.raises(HostFailed, match="does not let us in"):
        open_xen(URI, sshd)


def test_nothing_listens(dom0: FakeDom0, sshd: SshTransport) -> None:
    refused = replace(sshd, arguments=(*sshd.arguments[:-2], "-p", "1", *sshd.arguments[-2:]))
    with pytest.raises(HostFailed, match="nothing answers there"):
        open_xen(URI, refused)


def test_no_such_host(dom0: FakeDom0, sshd: SshTransport) -> None:
    lost = replace(sshd, arguments=(*sshd.arguments[:-1], "no-such-host.invalid"))
    with pytest.raises(HostFailed, match="no host of this name"):
        open_xen(URI, lost)


def test_no_ssh_client(dom0: FakeDom0, sshd: SshTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostFailed, match="cannot be started"):
        open_xen(URI, sshd)


def test_the_far_side_goes_away(dom0: FakeDom0, sshd: SshTransport) -> None:
    with open_xen(URI, sshd) as host:
        host.snapshot()
        server = int((configuration(sshd).parent / "sshd.pid").read_text())
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for child in children:
            subprocess.run(["kill", "-KILL", child], check=True)
        with pytest.raises(HostFailed, match="connection") as caught:
            host.snapshot()
        assert "\n" not in str(caught.value)
        with pytest.raises(HostFailed):
            host.snapshot()
    os.kill(server, 0)
