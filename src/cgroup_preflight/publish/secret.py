"""A token that cannot be printed by mistake, and the removal of tokens from every text that leaves this process."""

import contextlib
import re
from collections.abc import Iterable

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy

#: A header's value must be visible ASCII; otherwise `requests` raises an error with the value in its message.
_USABLE = re.compile(r"[!-~]{1,2048}", re.ASCII)
#: NAME=TOKEN.
_LINE = re.compile(r"[A-Z][A-Z0-9_]{0,63}=.{0,2048}", re.ASCII)
_LINES_MAX = 16
#: <linux/prctl.h>. With 0, environ, mem and fd of /proc/PID belong to root, and no process may ptrace(2) this one.
_PR_SET_DUMPABLE = 4


class Secret:
    """A token. Only `reveal` returns its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(***)"

    def reveal(self) -> str:
        """The token, for the one call that hands it to a client library."""
        return self._text

    def begins(self, *prefixes: str) -> bool:
        """Whether the token begins with one of `prefixes`, which tell the kinds of tokens apart."""
        return self._text.startswith(prefixes)


def secret(text: str) -> Secret | None:
    """The token in an environment variable's text; None if it is empty or if no header can carry it."""
    stripped = text.strip()
    return Secret(stripped) if _USABLE.fullmatch(stripped) else None


def first_secret(texts: Iterable[str]) -> Secret | None:
    """The first usable token of `texts`."""
    return next((found for text in texts if (found := secret(text))), None)


def redact(text: str, secrets: Iterable[Secret]) -> str:
    """`text` without `secrets`; one of fewer than 6 characters stays, since it may be part of ordinary words."""
    for item in secrets:
        token = item.reveal()
        if len(token) >= 6:
            text = text.replace(token, "***")
    return text


def close_process() -> None:
    """Closes the memory and the descriptors of this process to other processes of its user, where the system can."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def read_tokens(lines: Iterable[str]) -> dict[str, str]:
    """The tokens by their names from lines NAME=TOKEN; an empty token is none. Raises UsageError."""
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if number > _LINES_MAX or not _LINE.fullmatch(text):
            # The line may be a token, so it is not repeated.
            raise UsageError(f"line {number} is not NAME=TOKEN", where="--token-stdin",
                             remedy=Remedy(title="write one line for each token, such as GITLAB_TOKEN=..."))  # fmt: skip
        name, _, token = text.partition("=")
        found[name] = token
    return found
