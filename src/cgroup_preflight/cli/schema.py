"""`cgroup-preflight schema`: the JSON Schema of the config or of the report."""

import argparse
import json
from pathlib import Path

from cgroup_preflight.cli import options

_ABOUT = """\
Prints a JSON Schema (2020-12): of cgroup-preflight.toml, so that an editor
completes and checks it, or of the JSON report.

Use the first in your editor, and the second in a program that reads reports.

    cgroup-preflight schema --output cgroup-preflight.schema.json
    cgroup-preflight schema report

Editors with Taplo (Even Better TOML) use the schema that the first line of the
config names:

    #:schema ./cgroup-preflight.schema.json

Exit status: 0 printed or written, 2 wrong call, or a file that cannot be
written.
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("schema", _ABOUT)
    parser.add_argument(
        "of", nargs="?", choices=("config", "report"), default="config", help="which schema (default: config)"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="write to FILE instead of stdout")
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError for a file that cannot be written."""
    args = arguments().parse_args(words)
    text = json.dumps(_schema(args.of), indent=2, ensure_ascii=True) + "\n"
    if args.output is not None:
        options.write_text(args.output, text)
    else:
        options.write_stdout(text)
    return 0


def _schema(of: str) -> dict[str, object]:
    if of == "report":
        from cgroup_preflight.checks.reference import known_codes
        from cgroup_preflight.report.schema import schema as report_schema

        return report_schema(known_codes())
    from cgroup_preflight.config.schema import schema as config_schema

    return config_schema()
