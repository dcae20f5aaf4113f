"""Escapes foreign text: configs, logs and reports come from pull requests, so none of it is trusted."""

import re
from collections.abc import Sequence

#: Longest foreign text shown in one place, characters; log lines of a megabyte exist.
_CLIP = 2000
#: How much of the end of a service's log is shown or written: lines, and characters of each (24 kB at most).
LOG_LINES, LOG_LINE_MAX = 20, 300

#: Words that neither GitHub nor GitLab changes: no reference, link, emoji, markup or commit hash.
_PROSE = r"\(?[A-Za-z]+(?:[-'][A-Za-z]+)*\d{0,2}[.,;:)]{0,2}|\(?\d{1,6}(?:\.\d{1,3})?%?[,;:]?"
#: Characters without a meaning in Markdown inside a line, outside of links.
_INERT = r"[A-Za-z0-9 ,;()=+/.'-]"


def plain(text: str, *, keep_newlines: bool = False) -> str:
    """Text for a terminal: control, format and bidirectional characters become visible escapes.

    A runner of GitHub's reads `##[` in any column of a log as a command (actions/runner, ActionCommand.cs).
    """
    inert = text.replace("##[", "## [")
    if inert.isascii() and inert.isprintable():
        return inert
    return "".join(_visible(char, keep_newlines=keep_newlines) for char in inert)


def _visible(char: str, *, keep_newlines: bool) -> str:
    if char == "\n" and keep_newlines:
        return char
    import unicodedata  # only where a text is not plain ASCII

    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return char.encode("unicode_escape").decode("ascii")
    return char


def log_lines(tail: Sequence[str]) -> list[str]:
    """The end of a log, the same in every format: bounded, and safe on a terminal.

    A second call changes nothing, so a report that was written and read again looks the same.
    """
    return [plain(line[:LOG_LINE_MAX])[:LOG_LINE_MAX] for line in tail[-LOG_LINES:]]


def clip(text: str, limit: int = _CLIP) -> str:
    """At most `limit` characters of `text`, and how many are missing."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text) - limit} characters left out)"


def markdown(text: str, *, keep_newlines: bool = False) -> str:
    """Text for an HTML element inside Markdown: every character with a meaning becomes a character reference.

    A reference cannot form structure (CommonMark 0.31, section 2.5). Only `code` and `pre` elements keep GitHub and
    GitLab from finding mentions and issues in it: they look after the references are resolved (github/cmark-gfm#181).
    """
    shown = plain(text, keep_newlines=keep_newlines)
    return "".join(_reference(char) for char in re.sub(r"(?i)(www)\.", "\\1\0", shown))


def _reference(char: str) -> str:
    if char == "\0":  # plain() leaves none, so it can mark the dot of `www.`, which would begin a link
        return "&#46;"
    if char == "@":  # the element keeps cmark-gfm from making `user@1000.service` a mail address
        return "&#64;<wbr>"
    if char == "\n" or not char.isascii() or re.match(_INERT, char, re.ASCII):
        return char
    return f"&#{ord(char)};"


def code(text: str, limit: int = _CLIP) -> str:
    """Foreign text as an inline `code` element for Markdown, one line."""
    return f"<code>{markdown(clip(text, limit)) or ' '}</code>"


def prose(text: str, limit: int = _CLIP) -> str:
    """A sentence for Markdown: plain words stay words; text that GitHub or GitLab could act on becomes code."""
    parts: list[str] = []
    for word in clip(text, limit).split(" "):
        if not word or re.fullmatch(_PROSE, word, re.ASCII):
            parts.append(word)
            continue
        before, core, after = _split(word)
        if parts and parts[-1].endswith("</code>") and not before:
            # Neighbours share one element, so that a command or an address stays together.
            parts[-1] = f"{parts[-1].removesuffix('</code>')} {markdown(core)}</code>{after}"
        else:
            parts.append(f"{before}<code>{markdown(core)}</code>{after}")
    return " ".join(parts)


def _split(word: str) -> tuple[str, str, str]:
    """The text before the code, the code (never empty), and the punctuation after it."""
    core = word.removeprefix("(").rstrip(".,;:)")
    if not core:
        return "", word, ""
    start = word.index(core)
    return word[:start], core, word[start + len(core) :]


def pre(lines: str, limit: int = _CLIP) -> str:
    """Lines of foreign text as a `pre` block for Markdown: no fence that text could close, no line that is a command.

    GitLab reads `/close` at the start of a line as a quick action, in some versions even inside a fence.
    """
    text = markdown(clip(lines, limit), keep_newlines=True)
    return "<pre>\n" + "\n".join(re.sub(r"^[ ]*/", lambda found: found[0].replace("/", "&#47;"), line)
                                 for line in text.split("\n")) + "\n</pre>"  # fmt: skip


def sarif(text: str, limit: int = _CLIP) -> str:
    """Text for a SARIF message: brackets would be links, braces placeholders (SARIF 2.1.0, 3.11.5 and 3.11.6)."""
    shown = plain(clip(text, limit), keep_newlines=True)
    return re.sub(r"[\[\]\\]", lambda found: f"\\{found[0]}", shown).replace("{", "{{").replace("}", "}}")


def uri_path(path: str) -> str:
    """A relative path as a URI reference; a colon in the first part would read as a scheme (RFC 3986, 4.2)."""
    from urllib.parse import quote  # only for reports with locations

    return quote(path.encode("utf-8", "replace"), safe="/-_.~")
