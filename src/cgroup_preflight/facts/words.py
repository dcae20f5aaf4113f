"""Files of whole words: `cgroup.controllers`, `cgroup.subtree_control`, features, delegate."""


def parse_words(text: str) -> frozenset[str]:
    """The words between blanks; `cpuset` is not `cpu`. Raises ValueError on text that cannot be such a file."""
    words = frozenset(text.split())
    for word in words:
        if not word.replace("_", "").replace(".", "").isalnum() or not word.isascii():
            raise ValueError(f"not a word: {word[:40]!r}")
    return words
