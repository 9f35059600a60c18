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
    "xenopsd": "XAPI's best effort",
    "xenopsd-hard": "the same with hard affinity",
    "xenopsd-memory": "the same without a core to each vCPU",
    "numad": "the advice of numad -w",
    "packed": "fewest nodes, the most used first",
    "spread": "fewest nodes, the least used first",
    "greedy": "each guest as is best for itself",
    "first-fit": "the first node with the memory",
    "random": "any nodes",
}
"""Name to one line for `--help`."""

_BASELINES = "domicile.policies.baselines"

_FUNCTIONS = {
    "domicile": ("domicile.policies.placement", "place"),
    "libxl": (f"{_BASELINES}.libxl_plan", "place"),
    "xenopsd": (f"{_BASELINES}.xenopsd_plan", "place"),
    "xenopsd-hard": (f"{_BASELINES}.xenopsd_plan", "place_hard"),
    "xenopsd-memory": (f"{_BASELINES}.xenopsd_plan", "place_memory_only"),
    "numad": (f"{_BASELINES}.numad", "place"),
    "packed": (f"{_BASELINES}.packed", "place"),
    "spread": (f"{_BASELINES}.spread", "place"),
    "greedy": (f"{_BASELINES}.greedy", "place"),
    "first-fit": (f"{_BASELINES}.first_fit", "place"),
    "random": (f"{_BASELINES}.random_set", "place"),
}
"""Name to module and function."""


def policy(name: str = DEFAULT_POLICY) -> Policy:
    """The policy of this name. Raises `BadInput` if there is none."""
    if name not in _FUNCTIONS:
        raise BadInput("--policy", f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
    module, function = _FUNCTIONS[name]
    return cast("Policy", getattr(importlib.import_module(module), function))
