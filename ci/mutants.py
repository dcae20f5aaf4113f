"""Count the mutants that the fast tests notice: `python -m ci.mutants [--count N] [--seed N] [ROOM...]`.

cosmic-ray makes the mutants; this script takes a sample of each room, and runs the room's tests on each one. All of it
happens in a copy of the tree, so the checkout never has a mutant in it.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmic_ray.work_item import MutationSpec

TOP = Path(__file__).resolve().parents[1]
PACKAGE = Path("src", "cgroup_preflight")
EQUIVALENT = "ci/equivalent_mutants.toml"

#: Of cosmic-ray's operators those whose mutants are mistakes that people make. The others mostly end in a TypeError.
OPERATORS = frozenset(
    f"core/{name}"
    for name in (
        *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
        *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")),
        *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_GtE", "LtE_Gt", "Gt_LtE", "GtE_Lt")),
        *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_FloorDiv", "FloorDiv_Mul")),
        *(f"ReplaceBinaryOperator_{pair}" for pair in ("BitOr_BitAnd", "BitAnd_BitOr", "LShift_RShift", "Mod_Mul")),
        *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_USub_UAdd", "AddNot", "NumberReplacer"),
        *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
        *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "ZeroIterationForLoop"),
    )
)

_LONGEST_LINE = 1000

OUTCOMES = ("killed", "survived", "timeout", "equivalent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a mutant changes: a line before and after, without indentation; `module` is below the package."""

    module: str
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}\n  - {self.before}\n  + {self.after}"


def copied(to: Path) -> None:
    """Copies what git tracks, and what it would track, with all changes that are not committed."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=TOP,
        capture_output=True,
        check=True,
    )
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (TOP / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, to / name)


def left_out(source: str) -> frozenset[tuple[int, int]]:
    """Positions (line, column) that get no mutant: annotations, code for a type checker, options of dataclasses."""
    found: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr | ast.stmt | None] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(node.returns)
        elif isinstance(node, ast.ClassDef):
            parts.extend(node.decorator_list)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            parts.append(node)
        found.update(position for part in parts if part for position in _positions(part))
    return frozenset(found)


def _positions(part: ast.expr | ast.stmt) -> Iterable[tuple[int, int]]:
    last = part.end_lineno or part.lineno
    for line in range(part.lineno, last + 1):
        start = part.col_offset if line == part.lineno else 0
        end = part.end_col_offset if line == last else None
        yield from ((line, column) for column in range(start, end or _LONGEST_LINE))


def sample(mutants: Sequence["MutationSpec"], count: int, seed: str) -> list["MutationSpec"]:
    """`count` of the mutants, at different places of the source: the same ones for the same seed and source."""
    chance = random.Random(seed)  # noqa: S311  # the same sample again is the point
    by_place: dict[tuple[str, tuple[int, int]], list[MutationSpec]] = {}
    for mutant in sorted(mutants, key=lambda item: (str(item.module_path), item.start_pos, item.operator_name)):
        by_place.setdefault((str(mutant.module_path), mutant.start_pos), []).append(mutant)
    chosen = [chance.choice(group) for group in by_place.values()]
    return chance.sample(chosen, min(count, len(chosen)))


def all_mutants(room: str, folder: Path) -> list["MutationSpec"]:
    """Every sensible mutant of one room of the current folder; `folder` is for cosmic-ray's own file."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB, use_db

    modules = sorted((PACKAGE / room).rglob("*.py"))
    idle = {str(path): left_out(path.read_text("utf-8")) for path in modules}
    with use_db(str(folder / f"{room}.sqlite"), WorkDB.Mode.create) as work:
        init(modules, work, {})
        found = [item.mutations[0] for item in work.work_items]
    return [
        item for item in found
        if item.operator_name in OPERATORS and tuple(item.start_pos) not in idle[str(item.module_path)]
    ]  # fmt: skip


def change_of(diff: str, module: str) -> Change:
    """The change of a mutant, from the unified diff of cosmic-ray. A mutant changes one line."""
    lines = diff.splitlines()
    header = next(line for line in lines if line.startswith("@@"))
    start = int(header.split()[1].lstrip("-").split(",")[0])
    body = lines[lines.index(header) + 1 :]
    at = next(number for number, line in enumerate(body) if line.startswith("-"))
    removed, added = ([line[1:].strip() for line in body if line.startswith(sign)] for sign in "-+")
    return Change(module=module, line=start + at, before=" ".join(removed), after=" ".join(added))


def known_equivalents(text: str) -> frozenset[tuple[str, str, str]]:
    """The entries of ci/equivalent_mutants.toml: module, line before, line after."""
    entries = tomllib.loads(text).get("equivalent", ())
    return frozenset((entry["module"], entry["before"], entry["after"]) for entry in entries)


def figures(counted: Mapping[str, Mapping[str, int]]) -> str:
    """One line for each room and one for all; the share is that of killed and timeout among those not equivalent."""
    rows = [*counted.items(), ("all", sum((Counter(row) for row in counted.values()), Counter()))]
    lines = [f"{'room':<12}{''.join(f'{name:>12}' for name in OUTCOMES)}{'noticed':>10}"]
    for room, row in rows:
        noticed = row.get("killed", 0) + row.get("timeout", 0)
        judged = noticed + row.get("survived", 0)
        share = f"{noticed / judged:.0%}" if judged else "-"
        lines.append(f"{room:<12}{''.join(f'{row.get(name, 0):>12}' for name in OUTCOMES)}{share:>10}")
    return "\n".join(lines) + "\n"


def try_room(room: str, count: int, seed: int, folder: Path) -> Counter[str]:
    """The outcomes of a sample of one room, in the current folder; prints each survivor.

    Raises:
        subprocess.CalledProcessError: the tests of the room fail without any mutant.

    """
    from cosmic_ray.mutating import mutate_and_test

    words = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0",
             f"tests/unit/{room}")  # fmt: skip
    began = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    limit = 10 + 4 * (time.monotonic() - began)
    equivalent = known_equivalents(Path(EQUIVALENT).read_text("utf-8"))
    outcomes: Counter[str] = Counter()
    for mutant in sample(all_mutants(room, folder), count, f"{seed} {room}"):
        result = mutate_and_test((mutant,), " ".join(words), limit)
        if result.diff is None or result.test_outcome is None:
            sys.stdout.write(f"no mutant: {mutant.operator_name} at {mutant.module_path}:{mutant.start_pos[0]}\n")
            continue
        change = change_of(result.diff, str(mutant.module_path.relative_to(PACKAGE)))
        outcome = "timeout" if result.output == "timeout" else str(result.test_outcome.value)
        if (change.module, change.before, change.after) in equivalent:
            outcome = "equivalent"
        outcomes[outcome] += 1
        if outcome == "survived":
            sys.stdout.write(f"survived: {change}\n")
            sys.stdout.flush()
    return outcomes


def rooms() -> list[str]:
    """The rooms that have fast tests."""
    return sorted(path.name for path in (TOP / "tests" / "unit").iterdir() if (TOP / PACKAGE / path.name).is_dir())


def main(words: Sequence[str]) -> int:
    """Try the mutants and print the figures; exit status 0, 1 if tests fail without a mutant, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="python -m ci.mutants")
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help="by default all of them")
    parser.add_argument("--count", type=int, default=15, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives another sample")
    args = parser.parse_args(words)
    if unknown := set(args.rooms) - set(rooms()):
        parser.error(f"no room with fast tests: {', '.join(sorted(unknown))}; rooms: {', '.join(rooms())}")
    counted: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        tree, folder = Path(temporary, "tree"), Path(temporary)
        copied(tree)
        # The tests start Python processes: they, too, must find the mutant and not an installed package.
        os.environ["PYTHONPATH"] = str(tree / "src")
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.chdir(tree)
        try:
            for room in args.rooms or rooms():
                began = time.monotonic()
                counted[room] = try_room(room, args.count, args.seed, folder)
                sys.stdout.write(f"{room}: {counted[room].total()} mutants in {time.monotonic() - began:.0f} s\n")
                sys.stdout.flush()
        except subprocess.CalledProcessError as error:
            sys.stderr.write(f"the tests fail without a mutant: {error.cmd[-1]}\n")
            return 1
        finally:
            os.chdir(TOP)
    sys.stdout.write(f"\nseed {args.seed}, {args.count} mutants of each room\n{figures(counted)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
