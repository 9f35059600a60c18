"""How a move ends."""


class Stop(Exception):
    """The end of it: how it ended, and why."""

    def __init__(self, ended: str, why: str) -> None:
        super().__init__(why)
        self.ended = ended
        self.why = why
