"""What a test needs of the machine that it runs on."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["missing"]


def missing(what: str) -> NoReturn:
    """Skip for want of something; fail in CI, which has installed all that a test needs."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI is to have it")
    pytest.skip(what)
