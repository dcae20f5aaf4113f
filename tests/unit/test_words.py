"""Plain technical English: words that a reader has to guess at stay out of messages, docstrings, comments and pages.

The list is short on purpose: each word was found in this project, and has a better one from the field. Identifiers and
code are not prose: text in backquotes, code blocks and strings of one word are not looked at.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "src" / "cgroup_preflight"

#: Pattern -> what to write instead. Words that are common in other senses are listed only in the phrase that is wrong.
EVERYWHERE = {
    r"mend(?:s|ed|ing)?": "fix",
    r"asked for": "required, configured or requested",
    r"dear(?:er|est)?|cheap(?:er|est|ly)?": "slow, fast, or the cost itself (memory, seconds)",
    r"let(?:s|ting)?(?: \w+)? go(?! on)": "start, release, stop or close",
    r"held": "paused (a process), charged (memory), locked (a file), kept, limited",
    r"(?:get|gets|got|getting) ready": "becomes ready, is ready, not ready after 30 s",
    r"never got": "did not become, did not receive",
    r"by now": "now, meanwhile",
    r"beside": "next to, with, in addition to",
    r"(?<!read )ahead": "in advance, before",
    r"bites?|bit(?=\.)": "takes effect, is enforced",
    r"stands? in": "is in, replaces, is used instead of",
    r"falls? to": "drops to, is done by",
    r"of a kind": "of the same type, or name the type",
    r"ever": "(forever; otherwise leave it out)",
    r"(?:is|are|was|were)(?: not| still| already)? there(?! (?:is|are))": "exists, is installed, remains",
    r"not tried": "not tested, and why",
    r"whatever it is": "name it",
    r"nothing is promised": "this is not a pass",
    r"anew": "again",
}
#: A user has GitHub or GitLab; "forge" is this project's own word for both, and stays in the code.
FOR_USERS = {r"forges?": "GitHub or GitLab"}

PAGES = [
    *(TOP / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "action.yml", ".gitlab-ci-template.yml")),
    *sorted((TOP / "docs").glob("*.md")),
    *sorted((TOP / "templates").glob("*.yml")),
    TOP / "examples" / "shop" / "cgroup-preflight.toml",
    *(
        TOP / "ci" / name
        for name in ("ansible/preflight.yml", "action_install.sh", "action_python.sh", "Containerfile")
    ),
    TOP / "pyproject.toml",
]
MODULES = [*sorted(PACKAGE.rglob("*.py")), *sorted((TOP / "ci").glob("*.py")), TOP / "noxfile.py"]


def _wrong_words(text: str, words: dict[str, str]) -> list[str]:
    """Each word of the list in `text`, with its better one; code in backquotes does not count."""
    prose = re.sub(r"`[^`]*`", "`code`", text).replace("\n", " ")
    prose = re.sub(r"\s+#?:?\s*", " ", prose)
    return [
        f"{match.group()!r}: better {better}"
        for pattern, better in words.items()
        for match in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", prose, re.IGNORECASE)
    ]


def _is_prose(text: str) -> bool:
    return re.search(r"[a-z]{2,} [a-z{]", text) is not None


def _strings(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Line, text and "is a docstring" of each string constant; an f-string counts as one, with `{}` for its values."""
    parts: set[int] = set()
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(id(value) for value in node.values)
            texts = [str(value.value) if isinstance(value, ast.Constant) else "{}" for value in node.values]
            yield node.lineno, "".join(texts), False
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value, id(node) in docstrings


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Blocks of comment lines that follow one another, each as one text."""
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if token.start[0] != last + 1 and block:
            yield start, " ".join(block)
            block = []
        start, last = (start if block else token.start[0]), token.start[0]
        block.append(token.string.lstrip("#: "))
    if block:
        yield start, " ".join(block)


def _wrong_in_module(text: str) -> list[str]:
    found = []
    for line, prose, is_docstring in _strings(ast.parse(text)):
        if is_docstring or _is_prose(prose):
            words = EVERYWHERE if is_docstring else EVERYWHERE | FOR_USERS
            found += [f"line {line}: {wrong}" for wrong in _wrong_words(prose, words)]
    for line, prose in _comments(text):
        found += [f"line {line}: {wrong}" for wrong in _wrong_words(prose, EVERYWHERE)]
    return sorted(found, key=lambda entry: int(re.findall(r"\d+", entry)[0]))


def _wrong_in_page(text: str) -> list[str]:
    # What is drawn into a page are docstrings, which are checked where they stand.
    written = re.sub(r"<!-- drawn: .*?<!-- end of ", "", text, flags=re.DOTALL)
    without_blocks = re.sub(r"^ *```.*?^ *```", "", written, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"(?m)^    .*$", "", without_blocks)
    return _wrong_words(prose, EVERYWHERE | FOR_USERS)


def _name(path: Path) -> str:
    return str(path.relative_to(TOP)).removeprefix("src/cgroup_preflight/")


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_are_in_plain_english(path: Path) -> None:
    assert _wrong_in_module(path.read_text()) == []


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_pages_are_in_plain_english(path: Path) -> None:
    is_markdown = path.suffix == ".md"
    text = path.read_text()
    assert (_wrong_in_page(text) if is_markdown else _wrong_words(text, EVERYWHERE | FOR_USERS)) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('raise ValueError(f"something that was asked for does not hold: {name}")', "asked for"),
        ('print(f"{service} never got ready")', "never got"),
        ('print("nothing on this forge changed")', "forge"),
        ('def start():\n    """Start it; the unit is held until\n    its limits are read."""', "held"),
        ("x = 1  # mends what the last\n", "mends"),
        ("# a second unit stands\n# in for the first\nx = 1\n", "stands in"),
        ('print("it is not there")', "is not there"),
    ],
)
def test_a_word_of_the_list_is_found(text: str, word: str) -> None:
    assert any(entry.split(": ")[1].strip("'") == word for entry in _wrong_in_module(text))


@pytest.mark.parametrize(
    "text",
    [
        'held = {"forge": 1}',
        'run("held")',
        'print("see `forges.py`, and the mark that apt-mark hold sets")',
        '"""The forge is GitHub or GitLab; read ahead by one block."""',
        "print('recommended, bitwise, withheld, never, besides')",
        "# one pause\nx = 1\n# see `held`\n",
    ],
)
def test_code_and_words_of_the_field_are_not_found(text: str) -> None:
    assert _wrong_in_module(text) == []


def test_pages_are_read_without_their_code() -> None:
    page = "# Title\n\n    held by a forge\n\n```sh\nmend it\n```\n\nRun `mend`.\n"
    assert _wrong_in_page(page) == []
    assert _wrong_in_page(page + "Now mend it.\n") == ["'mend': better fix"]
