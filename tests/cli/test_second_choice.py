"""Guests that do not all have room beside CPUs, created on a simulated host with a CXL node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from domicile.cli.main import main
from domicile.hosts.open import open_host

HOST = "sim:///far?machine=genoa-9224-nps2-cxl"


def test_who_takes_memory_without_cpus_starts_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four guests of 96 GiB and their overhead where there are four times 94 beside CPUs. "a" comes first on the
    command line and hardly touches its memory; when it starts, the others have filled the nodes."""
    monkeypatch.setenv("DOMICILE_STATE", str(tmp_path / "state"))
    names = ("a", "b", "c", "d")
    for name in names:
        (tmp_path / f"{name}.cfg").write_text(f'name = "{name}"\ntype = "pvh"\nvcpus = 16\nmemory = 98304\n')
    intent = tmp_path / "domicile.toml"
    intent.write_text("[domains.a]\nmemory_bound = 0.05\n")
    files = [str(tmp_path / f"{name}.cfg") for name in names]
    result = CliRunner().invoke(main, ["create", *files, "--config", str(intent), "--json", "-c", HOST])
    assert result.exit_code == 0, result.output
    assert [each["domain"] for each in json.loads(result.output)["outcomes"]] == list(names)

    with open_host(HOST) as host:
        snapshot = host.snapshot()
    found = {domain.name: domain for domain in snapshot.domains}
    assert [name for name in found if found[name].pages_by_node.get(4)] == ["a"]  # type: ignore[union-attr]
    assert max(found[name].id for name in names) == found["a"].id
    result = CliRunner().invoke(main, ["verify", "-c", HOST])
    assert result.exit_code == 0, result.output
