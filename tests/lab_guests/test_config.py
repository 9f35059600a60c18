"""The guests' `xl.cfg` text and the words for their load."""

from __future__ import annotations

from ast import literal_eval

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.lab.guests import IDLE, LEAST_MEMORY_MIB, Load, guest_config
from domicile.lab.guests.config import ConfigValue
from domicile.state.model import DomainType

TEXT = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=20)
VALUES: st.SearchStrategy[ConfigValue] = st.recursive(
    st.one_of(TEXT, st.integers(0, 9999)), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


def parsed(text: str) -> dict[str, object]:
    """xl.cfg without comments is near enough Python: that is where the format comes from."""
    return {key: literal_eval(value) for key, _, value in (line.partition(" = ") for line in text.splitlines())}


@pytest.mark.parametrize("kind", list(DomainType))
def test_each_type(kind: DomainType) -> None:
    config = parsed(guest_config("g1", kind, 2, 128, load=Load(2, 64, pattern=True, pause_ms=50)))
    assert config["type"] == kind.value
    assert (config["name"], config["vcpus"], config["memory"]) == ("g1", 2, 128)
    assert str(config["extra"]).endswith("busy=2 touch_mib=64 pattern=1 pause_ms=50")
    assert str(config["kernel"]).startswith("/var/lib/domicile/guests/")
    assert ("vga" in config) == (kind is DomainType.HVM)


@given(st.dictionaries(st.sampled_from(["cpus", "cpus_soft", "vnuma", "pci", "cap"]), VALUES))
def test_further_keys_come_out_as_they_went_in(keys: dict[str, ConfigValue]) -> None:
    config = parsed(guest_config("g", "pvh", 1, 128, keys=keys))
    assert {key: config[key] for key in keys} == keys


def test_a_key_replaces_and_extra_is_added_to() -> None:
    config = parsed(guest_config("g", "pv", 1, 128, keys={"on_crash": "preserve", "extra": "debug"}))
    assert config["on_crash"] == "preserve"
    assert str(config["extra"]).endswith(f"{IDLE.text} debug")


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", 1.5, {"a": 1}, None])
def test_what_xl_could_not_read_is_refused(value: object) -> None:
    with pytest.raises(BadInput):
        guest_config("g", "pv", 1, 128, keys={"cpus": [value]})  # type: ignore[list-item]


@pytest.mark.parametrize("load", [(-1, 0), (0, 64), (2, -1), (2000, 0)])
def test_a_load_that_cannot_be(load: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"load|busy"):
        Load(*load)
    with pytest.raises(ValueError, match="load"):
        Load(1, 16, pause_ms=-1)


def test_every_type_has_a_least_memory() -> None:
    assert set(LEAST_MEMORY_MIB) == set(DomainType)
