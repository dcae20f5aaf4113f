"""A token that cannot be printed by mistake, and the removal of tokens from any text that leaves this process."""

import re
from collections.abc import Iterable

#: A header's value must be visible ASCII; `requests` would otherwise raise with the value in its message.
_USABLE = re.compile(r"[!-~]{1,2048}", re.ASCII)


class Secret:
    """Holds a token. Its text comes out of `reveal` only."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(***)"

    def reveal(self) -> str:
        """The token, for the one call that hands it to a client library."""
        return self._text

    def begins(self, *prefixes: str) -> bool:
        """Whether the token is of a kind that is told by its beginning."""
        return self._text.startswith(prefixes)


def secret(text: str) -> Secret | None:
    """The token in an environment variable's text; None for an empty one and for one that no header can hold."""
    stripped = text.strip()
    return Secret(stripped) if _USABLE.fullmatch(stripped) else None


def redact(text: str, secrets: Iterable[Secret]) -> str:
    """`text` without any of `secrets`; ones of fewer than 6 characters would tear words apart and are left."""
    for item in secrets:
        token = item.reveal()
        if len(token) >= 6:
            text = text.replace(token, "***")
    return text
