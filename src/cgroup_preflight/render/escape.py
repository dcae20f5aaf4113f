"""One place that makes foreign text harmless; it comes from a pull request."""

import unicodedata


def plain(text: str, *, keep_newlines: bool = False) -> str:
    """Text for a terminal: control, format and bidirectional characters become visible escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(char, keep_newlines=keep_newlines) for char in text)


def _visible(char: str, *, keep_newlines: bool) -> str:
    if char == "\n" and keep_newlines:
        return char
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return char.encode("unicode_escape").decode("ascii")
    return char
