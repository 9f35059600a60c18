"""Tiering of cold pages (roadmap item 6c): whether, and where to."""

from domicile.policies.tiering.policy import choose_tiering
from domicile.policies.tiering.pool import Pool

__all__ = ["Pool", "choose_tiering"]
