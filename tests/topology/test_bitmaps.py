"""Sets of ids in Linux's and hwloc's notations."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.topology.bitmaps import (
    ids_of,
    mask_of,
    parse_hwloc_bitmap,
    parse_kernel_list,
    parse_kernel_mask,
)
from domicile.topology.ids import format_ids

id_sets = st.frozensets(st.integers(0, 4095), max_size=40)


def kernel_mask(ids: frozenset[int]) -> str:
    """As `%*pb` prints it: groups of eight digits, highest first."""
    mask = mask_of(ids)
    groups = max(-(-mask.bit_length() // 32), 1)
    return ",".join(f"{mask >> 32 * group & 0xFFFFFFFF:08x}" for group in reversed(range(groups)))


def hwloc_bitmap(ids: frozenset[int]) -> str:
    """As `hwloc_bitmap_snprintf` prints it: empty groups after the first have no digits, but the last has."""
    groups = kernel_mask(ids).split(",")
    shown = [f"0x{group}" if int(group, 16) else "" for group in groups]
    return ",".join([*shown[:-1], shown[-1] or "0x0"])


@settings(deadline=None)
@given(id_sets.filter(bool))
def test_a_list_comes_back(ids: frozenset[int]) -> None:
    assert frozenset(ids_of(parse_kernel_list(format_ids(ids)))) == ids


@settings(deadline=None)
@given(id_sets)
def test_a_kernel_mask_comes_back(ids: frozenset[int]) -> None:
    assert frozenset(ids_of(parse_kernel_mask(kernel_mask(ids) + "\n"))) == ids


@settings(deadline=None)
@given(id_sets)
def test_a_hwloc_bitmap_comes_back(ids: frozenset[int]) -> None:
    assert frozenset(ids_of(parse_hwloc_bitmap(hwloc_bitmap(ids)))) == ids


def test_forms_seen_in_the_wild() -> None:
    assert ids_of(parse_kernel_list("0-3,8,10-11\n")) == (0, 1, 2, 3, 8, 10, 11)
    assert parse_kernel_list(" \n") == 0
    assert ids_of(parse_kernel_mask("ff")) == tuple(range(8))
    assert ids_of(parse_kernel_mask("0000,00000001,00000000")) == (32,)
    assert ids_of(parse_kernel_mask("0xf")) == (0, 1, 2, 3)
    assert ids_of(parse_hwloc_bitmap("0x00000001,,,,,,0x00000002")) == (1, 192)
    assert parse_hwloc_bitmap("0x0") == 0


def test_an_infinite_set_and_a_finite_one() -> None:
    everything = parse_hwloc_bitmap("0xf...f")
    above = parse_hwloc_bitmap("0xf...f,0x0000000f")
    assert everything & 0b1011 == 0b1011
    assert ids_of(above & (1 << 40 | 0b10010)) == (1, 40)
    with pytest.raises(ValueError, match="no end"):
        ids_of(above)


@pytest.mark.parametrize("text", ["a", "3-1", "1-", "-1", "0-4294967295", "65536", "1,,2", "1;2", "0x1", "\u0661"])
def test_no_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_kernel_list(text)


@pytest.mark.parametrize("text", ["", "g", "1,,2", "123456789,1", "-1", "f" * 20000, ",".join(["0"] * 3000)])
def test_no_kernel_mask(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_kernel_mask(text)


@pytest.mark.parametrize("text", ["", "0x", "0xg", "0x1,0x123456789", "f...f", "0xf...f,zz", "0x" + "f" * 20000, "1 2"])
def test_no_hwloc_bitmap(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_hwloc_bitmap(text)


@settings(deadline=None)
@given(st.text(alphabet="0123456789abcdefx,-. \n", max_size=60))
def test_any_text_is_a_set_or_a_value_error(text: str) -> None:
    for parse in (parse_kernel_list, parse_kernel_mask, parse_hwloc_bitmap):
        with contextlib.suppress(ValueError):
            assert parse(text).bit_length() <= 65536 + 32
