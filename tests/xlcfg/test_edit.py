"""Edits: what is asked for is there, everything else is as it was, and undoing gives the very bytes back."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.xlcfg.edit import MARK, added_keys, with_value, without, without_added
from domicile.xlcfg.syntax import Config, parse
from domicile.xlcfg.values import Atom, Items, Plain, Value

CONFIG = """\
# the web server
name = "web1"   # its name
memory = 512; vcpus = 2
disk = [
    'phy:/dev/vg/web1,xvda,w',  # root
]
"""

PIECES = [
    *("a = 1", 'b = "x # y"', "b += 'z'", "c = [\n 1, # one\n [2],\n]", "a=[]", "c = 'x;y'", " b=0"),
    *(
        "\n",
        "\n\n",
        ";",
        "; ",
        " ",
        "# note\n",
        "#\n",
        "# added by domicile (a)\n",
        "# added by domicile: node 1 (b)\n",
        "#",
        "%",
    ),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
KEYS = st.sampled_from(["a", "b", "c", "cpus_soft"])
SCALARS = st.one_of(st.integers(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
VALUES: st.SearchStrategy[Plain] = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
NOTES = st.sampled_from(["", "node 1", "nodes 0-3"])


def config_of(text: str) -> Config:
    try:
        return parse(text, "test.cfg")
    except BadInput:
        assume(condition=False)
        raise


def can_be_added_to(config: Config) -> bool:
    """No stray byte is in the way, and no mark without its line is at the end, which would go with what is added."""
    return (not config.stray or config.text.endswith("#")) and MARK not in config.text.rstrip("\n").rpartition("\n")[2]


def plain(value: Value | None) -> object:
    """A value as it would be given to `with_value`, numbers as text."""
    if isinstance(value, Items):
        return [plain(item) for item in value.values]
    return value.text if isinstance(value, Atom) else None


def as_text(value: Plain) -> object:
    if isinstance(value, str | int):
        return str(value)
    return [as_text(item) for item in value]


def others(config: Config, key: str) -> dict[str, object]:
    return {name: plain(config.value(name)) for name in config.effective if name != key}


@given(TEXTS, KEYS, VALUES, NOTES)
def test_a_key_is_set_and_the_rest_stays(text: str, key: str, value: Plain, note: str) -> None:
    config = config_of(text)
    assume(can_be_added_to(config))
    edited = with_value(config, key, value, note)
    assert plain(edited.value(key)) == as_text(value)
    assert others(edited, key) == others(config, key)
    assert key in added_keys(edited)
    assert with_value(edited, key, value, note).text == edited.text


@given(TEXTS, st.lists(st.tuples(KEYS, VALUES, NOTES), max_size=5))
def test_all_edits_undone_give_the_same_bytes(text: str, edits: list[tuple[str, Plain, str]]) -> None:
    config = config_of(text)
    assume(not added_keys(config) and can_be_added_to(config))
    edited = config
    for key, value, note in edits:
        edited = with_value(edited, key, value, note)
        assert edited.text.startswith(text)
    assert len(added_keys(edited)) == len({key for key, _, _ in edits})
    assert without_added(edited).text == text


@given(TEXTS, KEYS)
def test_a_key_is_removed_and_the_rest_stays(text: str, key: str) -> None:
    config = config_of(text)
    rest = without(config, key)
    assert key not in rest
    assert others(rest, key) == others(config, key)
    if key not in config:
        assert rest.text == text


@given(TEXTS)
def test_what_is_marked_can_always_be_taken_out(text: str) -> None:
    assert added_keys(without_added(config_of(text))) == ()


def test_an_added_line_is_marked() -> None:
    edited = with_value(parse(CONFIG, "web1.cfg"), "cpus_soft", "4-5", "node 1")
    assert edited.text == CONFIG + '# added by domicile: node 1 (cpus_soft)\ncpus_soft = "4-5"\n'


def test_marked_lines_are_replaced_where_they_stand() -> None:
    first = with_value(parse(CONFIG, "web1.cfg"), "cpus_soft", "4-5", "node 1").text + "extra = 'added by hand'\n"
    edited = with_value(parse(first, "web1.cfg"), "cpus_soft", ["0", "1"], "node 0")
    assert edited.text == (
        CONFIG + '# added by domicile: node 0 (cpus_soft)\ncpus_soft = ["0", "1"]\n' + "extra = 'added by hand'\n"
    )


def test_marked_lines_that_no_longer_count_go_to_the_end() -> None:
    first = with_value(parse("a = 1\n", "x.cfg"), "a", 2).text + "a = 3\n"
    edited = with_value(parse(first, "x.cfg"), "a", 4)
    assert edited.text == "a = 1\na = 3\n# added by domicile (a)\na = 4\n"


def test_a_mark_left_behind_claims_no_other_line() -> None:
    text = "# added by domicile: node 1 (cpus_soft)\nmemory = 512\n"
    assert without_added(parse(text, "x.cfg")).text == text


def test_an_own_assignment_is_overridden_not_changed() -> None:
    edited = with_value(parse(CONFIG, "web1.cfg"), "memory", 1024)
    assert edited.text.startswith(CONFIG)
    assert edited.number("memory") == 1024


def test_lines_that_a_removal_leaves_empty_go() -> None:
    config = parse(CONFIG, "web1.cfg")
    assert without(config, "disk").text == CONFIG.partition("disk")[0]
    assert without(config, "memory").text == CONFIG.replace("memory = 512;", "")
    assert without(config, "name").text == CONFIG.replace('name = "web1"', "")


def test_a_stray_last_byte_stands_in_the_way() -> None:
    with pytest.raises(BadInput, match="line 2: xl ignores the stray '%' at the very end"):
        with_value(parse("a = 1\n%", "x.cfg"), "b", 1)


@pytest.mark.parametrize("key", ["", "A", "a b", "a=1\nb", "1", "a-b"])
def test_only_keys_can_be_set(key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        with_value(parse("", "x.cfg"), key, 1)


def test_a_note_is_one_line() -> None:
    with pytest.raises(ValueError, match="one printable line"):
        with_value(parse("", "x.cfg"), "a", 1, "x\ny = 2")
