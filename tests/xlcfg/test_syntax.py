"""The grammar: what is accepted and means what, what is refused and how that reads, and that no byte is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.xlcfg.syntax import MAX_CONFIG_BYTES, MAX_DEPTH, Config, decode, encode, parse, read_config
from domicile.xlcfg.values import Atom, Items, Value

HVM_GUEST = r"""# a fully virtualised guest, in the manner of Xen's own examples
type = "hvm"
name = 'win.hvm'
uuid = "3b2f1c1e-5f4d-4b57-9a7e-9f0d6f6f6f6f"
memory = 0x400 ; maxmem = "1024"
vcpus = 2
maxvcpus = 04
vif = [ '' ]
disk = [ '/dev/vg/guest-volume,raw,xvda,rw' ,
         'file:/srv/cd.iso,hdc:cdrom,r',   # the medium
       ]
vnuma = [ [ "pnode=0","size=512","vcpus=0-1","vdistances=10,20" ],
          [ "pnode=1","size=512","vcpus=2-3","vdistances=20,10" ] ]
extra = "root=/dev/xvda1 "
extra += 'quiet'
vif += [ 'bridge=br0,mac=00:16:3e:00:00:01' ]
"""


def plain(value: Value | None) -> object:
    if isinstance(value, Items):
        return [plain(item) for item in value.values]
    return value.text if isinstance(value, Atom) else None


def read_or_error(text: str) -> Config | BadInput:
    try:
        return parse(text, "x.cfg")
    except BadInput as error:
        return error


def test_a_config() -> None:
    config = parse(HVM_GUEST, "win.cfg")
    assert config.string("name") == "win.hvm"
    assert (config.number("memory"), config.number("maxmem"), config.number("maxvcpus")) == (1024, 1024, 4)
    assert config.string("extra") == "root=/dev/xvda1 quiet"
    assert plain(config.value("vif")) == ["", "bridge=br0,mac=00:16:3e:00:00:01"]
    assert len(config.items("disk").values) == 2  # type: ignore[union-attr]
    assert plain(config.value("vnuma")) == [
        ["pnode=0", "size=512", "vcpus=0-1", "vdistances=10,20"],
        ["pnode=1", "size=512", "vcpus=2-3", "vdistances=20,10"],
    ]
    assert config.place("vnuma") == "line 12"
    assert config.string("kernel") is None
    assert config.place("kernel") == ""
    assert config.text == HVM_GUEST


def test_the_last_assignment_counts() -> None:
    config = parse("a = 1\na = [2]\na = 'three'\n", "x.cfg")
    assert config.string("a") == "three"
    assert config.place("a") == "line 3"
    assert [setting.line for setting in config.settings] == [1, 2, 3]


@pytest.mark.parametrize(
    ("literal", "meaning"),
    [
        ("''", ""),
        ('"it\'s"', "it's"),
        (r'"\"\'\\"', "\"'\\"),
        (r"'\a\b\f\n\r\t\v'", "\a\b\f\n\r\t\v"),
        (r'"a\0101b"', "ab"),  # xl drops octal escapes
        ("'[1, 2] # no comment'", "[1, 2] # no comment"),
        ("0x1f", "0x1f"),
        ("12ab", "12ab"),
        ("'\t\r'", "\t\r"),
        ("'\xe4'", "\xe4"),
    ],
)
def test_single_values(literal: str, meaning: str) -> None:
    assert parse(f"a={literal}", "x.cfg").string("a") == meaning


@pytest.mark.parametrize(
    ("literal", "number"),
    [("0", 0), ("010", 8), ("0x1f", 31), ("'0X1F'", 31), ("' 7'", 7), ("'-7'", -7), ("'+0x10'", 16), ("9", 9)],
)
def test_numbers(literal: str, number: int) -> None:
    config = parse(f"a = {literal}\n", "x.cfg")
    assert config.number("a") == number
    assert config.flag("a") is (number != 0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 'x'\n", "line 1: a: 'x' is no number"),
        ("a = ''\n", "line 1: a: '' is no number"),
        ("a = 08\n", "line 1: a: '08' is no number"),
        ("a = 0x\n", "line 1: a: '0x' is no number"),
        ("a = '512M'\n", "line 1: a: '512M' is no number"),
        ("\na = 9223372036854775808\n", "line 2: a: '9223372036854775808' is too large a number"),
        ("a = " + "9" * 5000, "line 1: a: '" + "9" * 40 + "...' is too large a number"),
        ("a = 1\na += 2\n", "line 2: a: += cannot be used with a number"),
        ("a = [1]\n", "line 1: a: a list where a single value should be"),
    ],
)
def test_what_is_no_number(text: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text, "x.cfg").number("a")
    assert str(caught.value) == f"x.cfg: {problem}"


def test_a_value_is_no_list() -> None:
    with pytest.raises(BadInput, match="line 1: a: a single value where a list should be"):
        parse("a = 1\n", "x.cfg").items("a")


def test_a_list_of_strings_holds_no_list() -> None:
    items = parse("a = [1,\n [2]]\n", "x.cfg").items("a")
    assert items is not None
    with pytest.raises(BadInput, match="line 2: a: a list where a string should be"):
        items.texts("x.cfg", "a")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = True\n", "line 1: 'True' is neither a key (keys are lower case) nor a value (give text in quotes)"),
        ("Name = 'x'\n", "line 1: 'Name' is neither a key (keys are lower case) nor a value (give text in quotes)"),
        (
            "a = 1\r\nb = 2\r\n",
            "line 1: a carriage return, which xl refuses; give the file Unix line ends (dos2unix does)",
        ),
        ("a = -1\n", "line 1: xl knows no negative numbers (near '-1')"),
        ("a = 1.5\n", "line 1: xl knows only whole numbers and no Python (near '.5')"),
        ("import os\n", "line 1: 'os' where '=' or '+=' should be"),
        ("a = {}\n", "line 1: xl knows no Python: lists are in [ ] (near '{}')"),
        ("a = 'x\n", 'line 1: the string that starts here does not end on its line (near "\'x")'),
        ("a = 1\n\n# end", None),
        ("a = [1,\n2\n", "line 2: the end of the file where ',' or ']' of the list that starts on line 1 should be"),
        ("a = [1 2]\n", "line 1: '2' where ',' or ']' of the list that starts on line 1 should be"),
        ("a = [,]\n", "line 1: ',' where a value (a string in quotes, a number or a list) should be"),
        ("a = 1 b = 2\n", "line 1: 'b' where the end of the line or ';' should be"),
        ("a\n= 1\n", "line 1: the end of the line where '=' or '+=' should be"),
        ("a =\n1\n", "line 1: the end of the line where a value (a string in quotes, a number or a list) should be"),
        ("\na = 'x'\na += [1]\n", "line 3: a: += cannot add a list to a single value or the other way round"),
        (r"a = '\x41'", r"line 1: xl refuses the escape '\\x' in " + repr(r"'\x41'")),
        ("a = '\0'", "line 1: a NUL byte in a string; xl aborts at it"),
        ("\0\0", "line 1: a NUL byte; this is no xl config"),
        ("\ufeffa = 1\n", "line 1: a byte order mark, which xl refuses; save the file without one"),
        ("\n\n_a = 1\n", "line 3: '_a' is no key: keys start with a lower-case letter"),
        ("a = \xe4\n", "line 1: '\xe4' cannot stand here; give text in quotes"),
        ("a = \udce4\n", r"line 1: '\udce4' cannot stand here; give text in quotes"),
        ("a = \x1b[0m\n", r"line 1: '\x1b' cannot stand here; give text in quotes"),
    ],
)
def test_what_is_refused(text: str, problem: str | None) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text, "x.cfg")
    shown = str(caught.value)
    assert shown.isprintable()
    if problem is not None:
        assert shown == f"x.cfg: {problem}"


def test_bounds() -> None:
    depth = "a=" + "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse(depth, "x.cfg").items("a")
    with pytest.raises(BadInput, match="nested more than 100 deep"):
        parse("a=" + "[" * 200_000, "x.cfg")
    assert parse("#" * (MAX_CONFIG_BYTES - 2) + "\n", "x.cfg").effective == {}
    with pytest.raises(BadInput, match="1 MiB or more"):
        parse("#" * (MAX_CONFIG_BYTES - 1) + "\n", "x.cfg")
    with pytest.raises(BadInput, match="1 MiB or more"):
        parse("#" + "\xe4" * (MAX_CONFIG_BYTES // 2) + "\n", "x.cfg")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["a+=1;", "a+=[1]\n", ";", "a=[]\n", "'", '"\\"', "[[", "#\n"])
def test_a_large_config_takes_no_undue_time(piece: str) -> None:
    text = piece * (60_000 // len(piece))
    read = read_or_error(text)
    assert read.place.startswith("line ") if isinstance(read, BadInput) else read.text == text


@given(st.text())
def test_any_text_is_read_losslessly_or_refused(text: str) -> None:
    read = read_or_error(text)
    if isinstance(read, BadInput):
        assert str(read).isprintable()
        assert read.place.startswith("line ")
    else:
        assert read.text == text
        assert all(text[setting.start :].startswith(setting.key) for setting in read.settings)


@given(st.binary())
def test_bytes_survive(data: bytes) -> None:
    assert encode(decode(data)) == data


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "g.cfg"
    path.write_bytes(b"name = 'g'  # \xe4\xff\n")
    config = read_config(path)
    assert (config.source, config.string("name")) == (str(path), "g")
    assert encode(config.text) == path.read_bytes()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        read_config(tmp_path / "none.cfg")
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        read_config(tmp_path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_config("a\0b")
    huge = tmp_path / "huge.cfg"
    huge.write_bytes(b"\n" * (2 * MAX_CONFIG_BYTES))
    with pytest.raises(BadInput, match="1 MiB or more"):
        read_config(huge)
