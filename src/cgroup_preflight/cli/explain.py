"""`cgroup-preflight explain CODE`: what a check means, why, what to do, sources."""

from cgroup_preflight.checks.reference import explain, known_codes
from cgroup_preflight.cli import options
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy

_ABOUT = """\
Explains a code of the report: what was checked, why it matters, what to do, and where the rule comes from.

    cgroup-preflight explain CGP102
    cgroup-preflight explain            (lists every code)
"""


def main(words: list[str]) -> int:
    """The command. Raises UsageError for a code that does not exist."""
    parser = options.parser("explain", _ABOUT)
    parser.add_argument("code", nargs="?", help="a code such as CGP102, or the name of a check")
    args = parser.parse_args(words)
    codes = known_codes()
    if args.code is None:
        options.write_stdout("".join(f"{code}  {name}\n" for code, name in codes.items()))
        return 0
    by_name = {name: code for code, name in codes.items()}
    code = args.code.upper() if args.code.upper() in codes else by_name.get(args.code, "")
    if not code:
        import difflib

        near = difflib.get_close_matches(args.code.upper()[:40], codes, n=1)
        title = f"did you mean {near[0]}?" if near else "see cgroup-preflight explain"
        raise UsageError(f"{args.code!r} is not a code", where="explain", remedy=Remedy(title=title))
    options.write_stdout(explain(code))
    return 0
