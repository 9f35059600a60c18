"""What goes wrong here, as the client is to hear of it."""


class Problem(Exception):
    """What went wrong, for the client; output is what `xl` printed.

    kind is "refused", "halted", "conflict" or "failed".
    """

    def __init__(self, kind: str, message: str, output: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.output = output
