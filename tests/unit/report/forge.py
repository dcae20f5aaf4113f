"""What a forge shows of Markdown: GitHub's own parser, then the text and elements that come out of it."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

import cmarkgfm  # type: ignore[import-untyped]
from cmarkgfm.cmark import Options  # type: ignore[import-untyped]

#: Elements without an end.
_VOID = frozenset({"wbr", "br", "hr", "img", "input"})


@dataclass(slots=True, kw_only=True)
class Shown:
    """`text` as a reader sees it, `loose` what is outside of `code` and `pre`; there a forge looks for references."""

    html: str
    text: str = ""
    loose: str = ""
    tags: set[str] = field(default_factory=set)
    rows: list[int] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self, shown: Shown) -> None:
        super().__init__(convert_charrefs=True)
        self.shown = shown
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name != "align"], attrs
        self.shown.tags.add(tag)
        if tag == "tr":
            self.shown.rows.append(0)
        if tag in ("td", "th"):
            self.shown.rows[-1] += 1
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl!r}")

    def handle_data(self, data: str) -> None:
        self.shown.text += data
        if not {"code", "pre"} & set(self.open):
            self.shown.loose += data


def show(markdown: str) -> Shown:
    """Renders and takes apart; fails on a comment, an attribute, or an element that is not closed in order."""
    shown = Shown(html=cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE))
    reader = _Reader(shown)
    reader.feed(shown.html)
    reader.close()
    assert not reader.open
    return shown


def squeeze(text: str) -> str:
    """Text with every run of blanks as one: HTML shows them so."""
    return " ".join(text.split())
