"""Report to text, one file a format. Opens no file, decides nothing."""

FORMATS = ("text", "json", "junit", "sarif", "codequality", "markdown")
