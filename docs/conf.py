"""Sphinx's settings: the pages in this folder as a site with search. `nox -s docs` builds it, and fails for a broken link.

The pages stay plain Markdown that GitHub and GitLab show, too. What only a site needs is added here while they are read.
"""

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_FILES = f"{_PROJECT['urls']['Source']}/blob/main/"

project = "cgroup-preflight"
author = "the authors of cgroup-preflight"
extensions = ["myst_parser"]
root_doc = "README"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
html_show_sphinx = False
html_show_copyright = False
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
#: As GitHub: links to headings of these levels.
myst_heading_anchors = 4
#: A page of the reference and its table of facts begin as they are on GitHub, at any level.
suppress_warnings = ["myst.header"]
nitpicky = True


def _site_text(_app: Sphinx, page: str, text: list[str]) -> None:
    """Leads links out of the folder to the repository, and gives the first pages their tables of contents."""
    text[0] = re.sub(r"\]\(((?:\.\./)+)(?!reference/|docs/)([^)\s]*)\)", rf"]({_FILES}\2)", text[0])
    if page in ("README", "reference/README"):
        # In the order in which the page names them: a page that it does not name is a warning, and so an error.
        pages = dict.fromkeys(re.findall(r"\]\(([\w/-]+)\.md\)", text[0]))
        text[0] += "\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _site_text)
