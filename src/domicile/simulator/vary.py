"""A scenario with one key changed, as a person names it: `seed`, `sharing.mode`, `domain.web.sharing`."""

from __future__ import annotations

from typing import Any

import msgspec

from domicile.errors import BadInput
from domicile.simulator.scenario import OFF, Scenario
from domicile.toml_file import explained

__all__ = ["vary"]

TABLES = {"domain": "domains", "workload": "workloads"}
"""Lists of tables, whose entries go by their name."""


def vary(scenario: Scenario, key: str, value: str, source: str) -> Scenario:
    """The scenario with this value (as text) of this key, not yet checked. Raises `BadInput` where there is no such
    key, or it cannot have this value."""
    tables: dict[str, Any] = msgspec.to_builtins(scenario)
    table, name = _table(tables, key, source)
    table[name] = value
    # two words for one thing: what was said in the other does not hold any more
    if key in ("sharing.mode", "sharing.policy"):
        table["policy" if name == "mode" else "mode"] = None
    elif key == "tiering.mode" and scenario.cold_pool.policy != OFF:
        tables["tiering"] |= {"far_nodes": scenario.cold_pool.far_nodes, "spare_mib": scenario.cold_pool.spare_mib}
        tables["cold_pool"]["policy"] = OFF
    elif key == "cold_pool.policy" and scenario.tiering.mode != OFF:
        tables["cold_pool"] |= {"far_nodes": scenario.tiering.far_nodes, "spare_mib": scenario.tiering.spare_mib}
        tables["tiering"]["mode"] = OFF
    try:
        return msgspec.convert(tables, Scenario, strict=False)
    except msgspec.ValidationError as error:
        raise explained(str(error), source, Scenario) from error


def _table(tables: dict[str, Any], key: str, source: str) -> tuple[dict[str, Any], str]:
    """The table that a key is in, and its name there."""
    parts = key.split(".")
    if len(parts) == 1:
        if isinstance(tables.get(key), (dict, list, tuple)):
            raise BadInput(source, "is a table; name a key of it", key)
        return tables, key
    if len(parts) == 2 and isinstance(tables.get(parts[0]), dict):
        return tables[parts[0]], parts[1]
    if len(parts) == 3 and parts[0] in TABLES:
        named = [each for each in tables[parts[0]] if each["name"] == parts[1]]
        if named:
            return named[0], parts[2]
        known = ", ".join(each["name"] for each in tables[parts[0]]) or "none"
        raise BadInput(source, f"there is no {parts[0]} {parts[1]!r}; there are {known}", key)
    raise BadInput(source, "no such key; give one as seed, sharing.mode or domain.NAME.sharing", key)
