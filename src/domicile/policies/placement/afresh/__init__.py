"""Many guests at once: a compiled search over the sets of nodes of all of them (see `loops`)."""
