"""How long to wait before a service starts again: longer each time, and short again after it ran well for a while."""

_FIRST = 1.0
_MAX = 60.0
#: A service that ran for so long starts over.
_STEADY = 60.0


class Pauses:
    """The pauses of one service, in seconds."""

    def __init__(self) -> None:
        self._next = _FIRST

    def after(self, ran: float) -> float:
        """The pause after a service that ran for `ran` seconds."""
        if ran >= _STEADY:
            self._next = _FIRST
        pause = self._next
        self._next = min(pause * 2, _MAX)
        return pause
