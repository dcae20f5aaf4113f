"""What a forge, or the way to it, answered instead of doing what was asked. Carries no header of the request."""

import enum
from dataclasses import dataclass, field


class Trouble(enum.StrEnum):
    """Kinds of trouble, as the receipt tells them apart."""

    STATUS = "refused"
    LIMIT = "rate limit"
    SERVER = "server error"
    CONTENT = "not an API answer"
    UNREACHABLE = "not reachable"
    CUT = "connection cut"
    SLOW = "no answer in time"
    TLS = "certificate not accepted"
    CA_FILE = "the file with the CA's certificate cannot be used"
    MOVED = "redirected elsewhere"
    DEADLINE = "out of time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One attempt: a response (`status`, lower-case `headers`, `excerpt` of the body) or trouble without one."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    excerpt: str = ""
    trouble: Trouble | None = None

    def header(self, name: str) -> str:
        """A header's text, empty where it is missing."""
        return self.headers.get(name, "")


class ForgeError(Exception):
    """A request that did not get done. `ambiguous`: nobody knows whether the forge did it all the same."""

    def __init__(self, trouble: Trouble, *, method: str, path: str, answer: Answer, ambiguous: bool = False) -> None:
        super().__init__(f"{method} {path}: {trouble.value}")
        self.trouble = trouble
        self.method = method
        self.path = path
        self.answer = answer
        self.ambiguous = ambiguous

    @property
    def status(self) -> int | None:
        """The HTTP status, None where there was no answer."""
        return self.answer.status or None
