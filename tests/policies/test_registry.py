"""The policies that can be named."""

import subprocess
import sys

import pytest

from domicile.errors import BadInput
from domicile.policies import placement
from domicile.policies.baselines import libxl_plan
from domicile.policies.registry import DEFAULT_POLICY, POLICIES, policy


def test_each_policy_can_be_had() -> None:
    assert policy() is placement.place
    assert policy("libxl") is libxl_plan.place
    for name in POLICIES:
        assert callable(policy(name))
    assert DEFAULT_POLICY in POLICIES


def test_an_unknown_policy_says_which_there_are() -> None:
    with pytest.raises(BadInput, match="--policy: there is no policy 'best'; there are domicile, libxl, xenopsd"):
        policy("best")


def test_naming_the_policies_does_not_load_numpy() -> None:
    code = "import sys, domicile.policies.registry, domicile.policies.plan; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
