"""Page sharing between domains (roadmap item 6a): whether, and among whom."""

from domicile.policies.sharing.equal import Scanner
from domicile.policies.sharing.policy import choose_sharing

__all__ = ["Scanner", "choose_sharing"]
