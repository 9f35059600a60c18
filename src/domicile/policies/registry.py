"""The policies that `--policy` can name. Modules are imported when a policy is used: they need NumPy, `--help` does
not.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from domicile.errors import BadInput
from domicile.policies.plan import PlacementPlan
from domicile.state.model import Snapshot
from domicile.state.request import GuestRequest, Intent

__all__ = ["DEFAULT_POLICY", "POLICIES", "Policy", "policy"]


class Policy(Protocol):
    """A placement policy: a pure function from a snapshot and what is asked for to a plan."""

    def __call__(
        self,
        snapshot: Snapshot,
        requests: Sequence[GuestRequest],
        intent: Intent = ...,
        *,
        exact: bool = False,
        load: Mapping[str, float] | None = None,
    ) -> PlacementPlan: ...


DEFAULT_POLICY = "domicile"

POLICIES: Mapping[str, str] = {
    "domicile": "least predicted slowdown of all domains",
    "libxl": "what xl create does by itself",
}
"""Name to one line for `--help`."""

_MODULES = {"domicile": "domicile.policies.placement", "libxl": "domicile.policies.baselines.libxl_plan"}


def policy(name: str = DEFAULT_POLICY) -> Policy:
    """The policy of this name. Raises `BadInput` if there is none."""
    if name not in _MODULES:
        raise BadInput("--policy", f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
    return cast("Policy", importlib.import_module(_MODULES[name]).place)
