"""Text of other programs and files in a line of ours."""


def printable(text: str) -> str:
    """The text on one line and without control characters: each that is not printable becomes `?`."""
    return "".join(char if char.isprintable() else "?" for char in text)
