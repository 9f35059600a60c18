"""The intent file: what it says, and how it reads when it makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.errors import BadInput
from domicile.intent_file import MAX_INTENT_BYTES, load_intent, read_intent
from domicile.state.mandate import DomainMandate, Mandate
from domicile.state.request import Character, DevicePolicy, Group, GroupKind, Intent, SharingMode, TieringMode

INTENT = """\
[devices]
policy = "required"

[groups.shop]
kind = "near"
domains = ["web1", "db"]
weight = 2

[groups."mail servers"]
kind = "apart"
domains = ["mx1", "mx2"]
"""


def read(text: str) -> Intent:
    return read_intent(text.encode(), "domicile.toml")


def test_an_intent() -> None:
    assert read(INTENT) == Intent(
        groups=(
            Group("shop", GroupKind.NEAR, ("web1", "db"), 2.0),
            Group("mail servers", GroupKind.APART, ("mx1", "mx2")),
        ),
        devices=DevicePolicy.REQUIRED,
    )


def test_what_is_known_of_a_domain() -> None:
    text = "[domains.db]\nmemory_bound = 0.7\ntraffic_gbs = 3\n[domains.'mail server']\nbusy_vcpus = 0.5\n[domains.x]\n"
    assert read(text).domains == (
        Character("db", memory_bound=0.7, traffic_gbs=3.0),
        Character("mail server", busy_vcpus=0.5),
        Character("x"),
    )


def test_sharing_and_tiering() -> None:
    found = read(
        '[sharing]\nmode = "any-node"\n[tiering]\nmode = "far-memory"\nfar_nodes = [4]\n'
        '[domains.db]\nsharing = "off"\ntiering = "other-nodes"\n[domains.web]\nmemory_bound = 0.2\n'
    )
    assert [found.sharing_of(name) for name in ("db", "web", "new")] == [
        SharingMode.OFF,
        SharingMode.ANY_NODE,
        SharingMode.ANY_NODE,
    ]
    assert [found.tiering_of(name) for name in ("db", "web")] == [TieringMode.OTHER_NODES, TieringMode.FAR_MEMORY]
    assert found.far_nodes == (4,)
    assert read("").sharing_of("db") is SharingMode.OFF


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("domains = 1", "domains: has to be tables: [domains.NAME]"),
        ("[domains]\ndb = 1", "domains.db: Expected `object`, got `int`"),
        ("[sharing]\nmode = 'near'", "sharing.mode: Invalid enum value 'near' (give one of off, same-node, any-node)"),
        (
            "[tiering]\nmode = 'cxl'",
            "tiering.mode: Invalid enum value 'cxl' (give one of off, other-nodes, far-memory)",
        ),
        ("[tiering]\nfar_nodes = []", "tiering.far_nodes: Expected `array` of length >= 1"),
        ("[domains.db]\ntiering = 'far'", "domains.db.tiering: Invalid enum value 'far' (give one of off, other-nodes"),
        ("[domains.db]\nmemory_bound = 1.5", "domains.db.memory_bound: Expected `float` <= 1.0"),
        ("[domains.db]\ntraffic_gbs = -1", "domains.db.traffic_gbs: Expected `float` >= 0.0"),
        ("[domains.db]\nbusy_vcpus = nan", "domains.db.busy_vcpus: Expected `float`"),
        ("[domains.db]\nmemorybound = 1", "domains.db: unknown key memorybound; did you mean memory_bound?"),
    ],
)
def test_what_is_said_wrongly_of_a_domain(text: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(text)
    assert str(caught.value).startswith(f"domicile.toml: {problem}")


MANAGER = """\
[manager]
read_only = true
allow = ["web*", "db"]
deny = ["web9"]
interval_s = 10
memory_map_every_s = 60
start = 0.1
stop = 0.1
horizon_s = 300
hold_off_s = 30
moves_per_minute = 0.5
rate_mib_s = 100

[domains.db]
may_move = false
pause_s = 1.5
min_mib = 512

[domains.quiet]
busy_vcpus = 1
"""


def test_what_the_manager_may_do() -> None:
    assert read(MANAGER).mandate == Mandate(
        interval_s=10.0,
        read_only=True,
        allow=("web*", "db"),
        deny=("web9",),
        memory_map_every_s=60.0,
        start=0.1,
        stop=0.1,
        horizon_s=300.0,
        hold_off_s=30.0,
        moves_per_minute=0.5,
        rate_mib_s=100.0,
        domains=(DomainMandate("db", may_move=False, pause_s=1.5, min_mib=512),),
    )


def test_what_is_left_out_is_as_usual() -> None:
    assert read("").mandate == read("[manager]\n").mandate == Mandate()
    assert read("[manager]\ndeny = ['db']\n").mandate == Mandate(deny=("db",))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("interval_s", "interval", "manager: unknown key interval; did you mean interval_s?"),
        ("interval_s", "interval_ms", "manager: unknown key interval_ms; did you mean interval_s?"),
        ("= 10\n", "= '10s'\n", "manager.interval_s: Expected `float`, got `str` (a number of seconds)"),
        ("= 10\n", "= 0.1\n", "manager.interval_s: Expected `float` >= 0.5 (a number of seconds)"),
        ("= 100\n", "= 0\n", "manager.rate_mib_s: Expected `float` >= 1.0 (a number of MiB/s)"),
        ("= 0.5\n", "= -1\n", "manager.moves_per_minute: Expected `float` >= 0.0"),
        ("= true", "= 1", "manager.read_only: Expected `bool`, got `int`"),
        ('["web9"]', '"web9"', "manager.deny: Expected `array`, got `str`"),
        ('["web9"]', '["web9", ""]', "manager.deny[1]: Expected `str` of length >= 1"),
        ("stop = 0.1", "stop = 0.2", "manager.stop: 0.2 is more than start, 0.1"),
        ("= false", "= 'no'", "domains.db.may_move: Expected `bool`, got `str`"),
        ("pause_s = 1.5", "pause_s = nan", "domains.db.pause_s: Expected `float`"),
        ("min_mib = 512", "min_mib = '512M'", "domains.db.min_mib: Expected `int | null`, got `str` (a number of MiB)"),
        ("min_mib", "min_gib", "domains.db: unknown key min_gib; did you mean min_mib?"),
        ("[manager]", "[manger]", "unknown key manger; did you mean manager?"),
        ("[manager]", "[[manager]]", "manager: Expected `object`, got `array`"),
    ],
)
def test_what_the_manager_is_told_wrongly(old: str, new: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(MANAGER.replace(old, new, 1))
    assert str(caught.value).startswith(f"domicile.toml: {problem}")


def test_nothing_has_to_be_said() -> None:
    assert read("") == read("[devices]\n[groups]\n[domains]\n") == Intent()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[devices]", "[device]", "unknown key device; did you mean devices?"),
        ("[devices]", "[x]\n[devices]", "unknown key x; there are devices, domains, groups"),
        ("policy", "polcy", "devices: unknown key polcy; did you mean policy?"),
        (
            '"required"',
            '"must"',
            "devices.policy: Invalid enum value 'must' (give one of required, preferred, ignored)",
        ),
        ('"required"', "1", "devices.policy: Expected `str`, got `int` (give one of required, preferred, ignored)"),
        ("domains", "domain", "groups.shop: unknown key domain; did you mean domains?"),
        ('"near"', '"close"', "groups.shop.kind: Invalid enum value 'close' (give one of together, near, apart)"),
        ('kind = "near"\n', "", "groups.shop: Object missing required field `kind`"),
        ('["web1", "db"]', '["web1"]', "groups.shop.domains: Expected `array` of length >= 2"),
        ('["web1", "db"]', '"web1"', "groups.shop.domains: Expected `array`, got `str`"),
        ('["web1", "db"]', '["web1", 2]', "groups.shop.domains[1]: Expected `str`, got `int`"),
        ('["web1", "db"]', '["web1", ""]', "groups.shop.domains[1]: Expected `str` of length >= 1"),
        ('["web1", "db"]', '["db", "db"]', "groups.shop.domains: 'db' is there twice"),
        ("weight = 2", "weight = 0", "groups.shop.weight: Expected `float` > 0.0"),
        ("weight = 2", "weight = nan", "groups.shop.weight: Expected `float` > 0.0"),
        ("weight = 2", "weight = inf", "groups.shop.weight: Expected `float` <= 1000.0"),
        ("weight = 2", "weight =", "no TOML: Invalid value (at line 7, column 9)"),
        ("[devices]", "groups = 1\n[devices]", "no TOML: "),
    ],
)
def test_what_makes_no_sense(old: str, new: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(INTENT.replace(old, new, 1))
    assert str(caught.value).startswith(f"domicile.toml: {problem}")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"groups = 1\n", "groups: has to be tables"),
        (b"[groups]\na = 1\n", "groups.a: Expected `object`, got `int`"),
        (b"\n\n# \xff\n", "line 3: not UTF-8"),
        (b"a = " + b"[" * 100_000, "no TOML: nested too deep"),
        (b"a = " + b"9" * 10_000, "no TOML: Exceeds the limit"),
        (b"\0", "no TOML: "),
        (b"#" * (MAX_INTENT_BYTES + 1), "more than 256 KiB"),
    ],
)
def test_what_is_no_intent_file(data: bytes, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_intent(data, "domicile.toml")
    assert str(caught.value).startswith(f"domicile.toml: {problem}")
    assert str(caught.value).isprintable()


def test_groups_that_contradict_each_other() -> None:
    groups = "[groups.a]\nkind='together'\ndomains=['x','y','z']\n[groups.b]\nkind='apart'\ndomains=['z','x']\n"
    with pytest.raises(BadInput, match=r"groups.a: 'x' and 'z' are wanted together, and apart by groups.b"):
        read(groups)
    assert len(read(groups.replace("together", "near")).groups) == 2


@pytest.mark.timeout(20)
def test_many_groups_take_no_undue_time() -> None:
    together = "".join(f"[groups.t{n}]\nkind='together'\ndomains=['x','{n}']\n" for n in range(2500))
    apart = "".join(f"[groups.a{n}]\nkind='apart'\ndomains=['x','y{n}']\n" for n in range(2500))
    assert len(read(together + apart).groups) == 5000


def test_where_it_is_looked_for(tmp_path: Path) -> None:
    named, default = tmp_path / "named.toml", tmp_path / "default.toml"
    assert load_intent(None, default) == Intent()
    default.write_text("[devices]\npolicy = 'ignored'\n")
    assert load_intent(None, default).devices is DevicePolicy.IGNORED
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        load_intent(named, default)
    named.write_text("[devices]\npolicy = 'required'\n")
    assert load_intent(str(named), default).devices is DevicePolicy.REQUIRED
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        load_intent(tmp_path, default)


PIECES = [
    "[devices]",
    "[groups.a]",
    "[groups.b]",
    "policy = 'ignored'",
    "kind = 'near'",
    "domains = ['a', 'b']",
    "[",
    "=",
]


@given(st.one_of(st.binary(), st.lists(st.sampled_from(PIECES), max_size=8).map("\n".join).map(str.encode)))
def test_any_file_is_read_or_refused(data: bytes) -> None:
    try:
        text = repr(read_intent(data, "domicile.toml"))
    except BadInput as error:
        text = str(error)
    assert text.isprintable()
