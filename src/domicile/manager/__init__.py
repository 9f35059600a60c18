"""The manager: the only part that changes a host. It journals intents, creates domains, verifies and recovers.

- `create.create_domains`: place and start, safe against other creations, crashes and cut connections.
- `verify.verify`, `verify.forget`: what is against what was wanted.
- `recovery.settle`: what became of what a process left undecided when it died.
- `journal.Journal`: what was wanted, before it is done; what was seen, after.
"""
