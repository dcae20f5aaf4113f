"""Reports to text and back. Opens no file, decides nothing.

`codec` writes the JSON report and `read` reads it; every other module renders one format.
"""

#: The formats of `--format`, and the module of this package that renders each.
MODULES = {
    "text": "text",
    "json": "codec",
    "junit": "junit",
    "sarif": "sarif",
    "codequality": "codequality",
    "markdown": "markdown",
    "html": "html_page",
}
FORMATS = tuple(MODULES)
