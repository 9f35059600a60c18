"""Host URIs: what they name, and what OpenSSH must never get to see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.hosts.xen.address import SshAddress, parse_ssh_uri, require_local_uri
from domicile.hosts.xen.transport import ssh_argv


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("xen+ssh://root@host7/", SshAddress("host7", "root")),
        ("xen+ssh://Host7", SshAddress("Host7")),
        ("xen+ssh://host7:2222/", SshAddress("host7", None, 2222)),
        ("xen+ssh://host7:/", SshAddress("host7")),
        ("xen+ssh://root@[::1]:22/", SshAddress("::1", "root", 22)),
        ("xen+ssh://[fe80::1%25eth0]/", SshAddress("fe80::1%eth0")),
        ("xen+ssh://a%40corp@10.0.0.1/", SshAddress("10.0.0.1", "a@corp")),
        ("xen+ssh://ex%61mple.org/", SshAddress("example.org")),
    ],
)
def test_addresses(uri: str, address: SshAddress) -> None:
    assert parse_ssh_uri(uri) == address


@pytest.mark.parametrize(
    "uri",
    [
        "xen+ssh:///",
        "xen+ssh://",
        "xen+ssh:host",
        "xen+ssh://-oProxyCommand=touch%20x/",
        "xen+ssh://-l@host/",
        "xen+ssh://%2doProxyCommand=x@host/",
        "xen+ssh://host;touch x/",
        "xen+ssh://$(touch x)/",
        "xen+ssh://host%0aProxyCommand/",
        "xen+ssh://a%00b/",
        "xen+ssh://root:secret@host/",
        "xen+ssh://host:0/",
        "xen+ssh://host:70000/",
        "xen+ssh://host:ssh/",
        "xen+ssh://host:²/",
        "xen+ssh://[::1/",
        "xen+ssh://[host]/",
        "xen+ssh://host/path",
        "xen+ssh://host/?agent=x",
        "xen+ssh://a@b@host/",
        "xen+ssh://%ff@host/",
        "xen+ssh://`id`@host/",
    ],
)
def test_what_is_no_address(uri: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_ssh_uri(uri)
    assert "secret" not in str(caught.value)


@given(st.text())
def test_nothing_but_plain_names_reaches_ssh(text: str) -> None:
    try:
        address = parse_ssh_uri(f"xen+ssh://{text}")
    except BadInput:
        return
    argv = ssh_argv(address)
    assert argv[-2] == "--"
    assert not argv[-1].startswith("-")
    assert not any(set(word) & set(" \t\n\0'\"`$;&|<>(){}*?!#~") for word in argv)


def test_host_keys_are_asked_for_whatever_the_users_configuration_says() -> None:
    argv = ssh_argv(SshAddress("h"))
    assert "StrictHostKeyChecking=ask" in argv
    assert "BatchMode=yes" in argv


def test_the_local_uri() -> None:
    require_local_uri("xen:///")
    with pytest.raises(BadInput):
        require_local_uri("xen://host/")
