"""Pure decisions: from a snapshot and what is asked for to a plan. No I/O, no clock, no randomness not passed in."""
