"""What a domain does with its pages that no host tells: what is equal to others', what it does not use."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PageUse"]


@dataclass(frozen=True, slots=True)
class PageUse:
    """A domain's pages. Shares are of its memory, 0 to 1.

    `equal_pages` have content that every domain with the same `content` has too (one image, one kernel, one program);
    a larger domain has more of it. `cold` is not used. Of that it can do without `ephemeral` (clean page cache, which
    may be lost) and `persistent` (its swap) for as long as somebody keeps them: it gives `put_mib_s` at most, and
    touches `get_mib_s` of what it has given again.
    """

    domain: str
    content: str = ""
    equal_pages: float = 0.0
    cold: float = 0.0
    ephemeral: float = 0.0
    persistent: float = 0.0
    put_mib_s: float = 100.0
    get_mib_s: float = 1.0
