"""Files that people write in TOML: found by name or path, and what is wrong in them named with what would be right."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.toml_file import TomlKind, decode_toml

KIND = TomlKind("scenario", "domicile.simulator", "scenarios")


class Wheel(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a part."""

    size_mib: int = 1


class Car(msgspec.Struct, forbid_unknown_fields=True, rename={"wheels": "wheel"}):
    """A record with what such files have: lists of tables, a table that may be missing, words as keys."""

    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    named: dict[str, Wheel] = {}


def test_one_that_comes_along_is_found_by_its_name_and_one_s_own_by_its_path(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_bytes(KIND.read("one-busy"))
    assert KIND.read(str(own)) == KIND.read("one-busy")
    assert "one-busy" in KIND.names()


def test_what_a_file_of_one_s_own_names_is_looked_for_beside_it(tmp_path: Path) -> None:
    (tmp_path / "box.toml").touch()
    assert KIND.beside(str(tmp_path / "mine.toml"), "box.toml") == str(tmp_path / "box.toml")
    assert KIND.beside(str(tmp_path / "mine.toml"), "4node") == "4node"
    assert KIND.beside("one-busy", "4node") == "4node"


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("wheels = []", "wheels", "did you mean 'wheel'? there are wheel, spare, named"),
        ("[[wheel]]\n[[wheel]]\nsize = 1", "wheel[1].size", "did you mean 'size_mib'?"),
        ("[spare]\nmib = 1", "spare.mib", "there are size_mib"),
        ('[spare]\nsize_mib = "a"', "spare.size_mib", "a number of MiB"),
        ("a = [", "", "not TOML"),
        ("a = '\xff'", "", "not TOML"),
    ],
)
def test_the_key_at_fault_is_named(text: str, place: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        decode_toml(text.encode("latin-1"), "car.toml", Car)
    assert caught.value.place == place
    assert problem in caught.value.problem


def test_files_that_are_none(tmp_path: Path) -> None:
    for named, problem in (
        (str(tmp_path), "no such scenario file"),
        ("a\0b", "no such scenario file"),
        (str(tmp_path / "long" / ("x" * 300)), "cannot be read|no such"),
    ):
        with pytest.raises(BadInput, match=problem):
            KIND.read(named)
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(BadInput, match="more than 1 MiB"):
        KIND.read(str(huge))


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_a_record_or_one_line(text: bytes) -> None:
    try:
        decode_toml(text, "car.toml", Car)
    except BadInput as caught:
        error = caught
    else:
        return
    assert "\n" not in str(error)
