"""What no placement can make good is refused, with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_world import read, texts

from domicile.errors import BadInput
from domicile.manager.guests import read_guests, require_possible
from domicile.state.model import DomainType, Snapshot
from domicile.topology.presets import load_preset


@pytest.mark.parametrize(
    ("kind", "virt_caps", "possible"),
    [
        (DomainType.HVM, ("pv", "hvm", "hap"), True),
        (DomainType.PVH, ("pv",), False),
        (DomainType.HVM, ("pv",), False),
        (DomainType.PV, ("pv",), True),
        (DomainType.HVM, (), True),
    ],
)
def test_hvm_needs_cpus_that_can(kind: DomainType, virt_caps: tuple[str, ...], possible: bool) -> None:
    snapshot = Snapshot(load_preset("4node").topology, (), 0.0, virt_caps=virt_caps)
    (guest,) = read_guests(texts("a"), snapshot, read)
    guest = replace(guest, request=replace(guest.request, type=kind))
    if possible:
        require_possible(snapshot, [guest])
        return
    with pytest.raises(BadInput, match=rf"a\.cfg: type: .* cannot run {kind} guests"):
        require_possible(snapshot, [guest])
