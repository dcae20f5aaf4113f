"""A token that cannot be printed by mistake, and the removal of tokens from every text that leaves this process."""

import re
from collections.abc import Iterable

#: A header's value must be visible ASCII; otherwise `requests` raises an error with the value in its message.
_USABLE = re.compile(r"[!-~]{1,2048}", re.ASCII)


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
