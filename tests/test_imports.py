"""Imports point inwards: the layers of the architecture, read from every module's syntax tree.

cli, web -> manager -> policies -> performance -> state -> topology; hosts know topology, state and the files that they
are handed (xlcfg), never a decision; the lab and the hosts do not know the manager. `errors` and `local` (folders,
processes, databases of this machine) serve every layer.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import domicile

ROOT = Path(domicile.__file__).parent
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))

DECISIONS = {"policies", "performance", "state", "topology"}
EVERYTHING = {
    "bench",
    "cli",
    "demo",
    "hosts",
    "intent_file",
    "lab",
    "local",
    "manager",
    "simulator",
    "web",
    "toml_file",
    "xlcfg",
    *DECISIONS,
}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "toml_file": set(),
    "local": set(),
    "topology": {"local"},
    "state": {"topology"},
    "performance": {"local.compiled", "state", "topology"},
    "intent_file": {"state", "toml_file"},
    "policies": {"local.compiled", *DECISIONS},
    "simulator": {"toml_file", "local.compiled", "performance", "state", "topology", "policies.plan"},
    "xlcfg": {"state", "topology", "policies.plan"},
    "hosts": {"local", "state", "topology", "xlcfg"},
    "lab": {"hosts", "local", "toml_file", "topology", "state", "xlcfg"},
    "manager": {"hosts", "local", "xlcfg", *DECISIONS},
    "demo": EVERYTHING - {"cli", "web", "lab"},
    "bench": EVERYTHING - {"cli", "web"},
    "cli": EVERYTHING,
    "__main__": {"cli"},
    "web": EVERYTHING - {"cli"},
}
"""What each package may import, besides itself and `errors`; a dotted name allows that module alone."""

MEMORY = "simulator.memory"
MEMORY_ALLOWED = {"errors", "topology", "state", "performance", MEMORY}
"""The memory half of the simulator stands alone: it knows neither its other half nor any decision."""

LAZILY: dict[str, set[str]] = {
    "hosts.open": {"lab"},
    "hosts.simulated.advance": {"simulator"},
    "hosts.simulated.workload": {"simulator"},
    "lab.measure": {"manager", "policies"},
}
"""What single modules may import besides, within a function: where a URI names a lab, where time passes on a simulated
host, and where a lab is measured."""

SIMULATED = "hosts.simulated"


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """What is imported of domicile, without its name, and whether within a function or for types alone."""
    lazy = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef) or for_types(outer)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which layer is meant"
            # `from domicile import x` names a layer as well as `from domicile.x import y` does
            module = node.module or ""
            found = [module]
            if module == "domicile":
                found = [f"{module}.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
        yield from (
            (name.removeprefix("domicile."), id(node) in lazy) for name in found if name.startswith("domicile.")
        )


def for_types(node: ast.AST) -> bool:
    """Whether this is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def dotted(module: Path) -> str:
    parts = module.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(name: str, allowed: set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


def outward(importer: str, tree: ast.AST) -> list[str]:
    """The imports that a module must not have."""
    own = importer.partition(".")[0]
    always = {own, "errors"} | ALLOWED.get(own, set())
    lazily = always | LAZILY.get(importer, set())
    return [name for name, lazy in imports(tree) if not within(name, lazily if lazy else always)]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_inwards(module: Path) -> None:
    importer = dotted(module)
    assert importer == "" or importer.partition(".")[0] in ALLOWED, f"{module} is in no layer"
    assert outward(importer, ast.parse((ROOT / module).read_text("utf-8"))) == []


def test_simulated_memory_stands_alone() -> None:
    for module in MODULES:
        if within(dotted(module), {MEMORY}):
            names = [name for name, _ in imports(ast.parse((ROOT / module).read_text("utf-8")))]
            assert [name for name in names if not within(name, MEMORY_ALLOWED)] == [], module


def test_the_simulated_host_knows_no_real_one() -> None:
    for module in MODULES:
        if dotted(module).startswith(SIMULATED):
            names = [name for name, _ in imports(ast.parse((ROOT / module).read_text("utf-8")))]
            assert not [name for name in names if within(name, {"hosts.xen", "lab", "xlcfg"})]


@pytest.mark.parametrize(
    ("importer", "text", "bad"),
    [
        ("policies.placement", "from domicile.hosts.protocol import Host", ["hosts.protocol"]),
        ("policies.placement", "import domicile.state.model", []),
        ("policies.placement", "if TYPE_CHECKING:\n    from domicile.hosts.protocol import Host", ["hosts.protocol"]),
        ("hosts.open", "if TYPE_CHECKING:\n    from domicile.lab.state import find", []),
        ("hosts.open", "if found:\n    from domicile.lab.state import find", ["lab.state"]),
        ("hosts.xen.dom0.agent.serve", "from domicile import manager", ["manager"]),
        ("hosts.xen.dom0.agent.serve", "def f():\n    import domicile.manager.create", ["manager.create"]),
        ("xlcfg.place", "from domicile.policies.plan import Placement", []),
        ("xlcfg.place", "from domicile.policies.placement import place", ["policies.placement"]),
        ("lab.measure", "from domicile.manager.create import create_domains", ["manager.create"]),
        ("lab.measure", "def f():\n    from domicile.manager.create import create_domains", []),
        ("hosts.open", "def f():\n    from domicile.lab.state import find", []),
        ("topology.planner", "from domicile.policies_old import x", ["policies_old"]),
    ],
)
def test_the_rule_itself(importer: str, text: str, bad: list[str]) -> None:
    assert outward(importer, ast.parse(text)) == bad
