"""Check the dashboard against Grafana's published schema: `python -m ci.check_dashboard`.

Grafana's own types (npm package @grafana/schema) say which keys a dashboard and the options of its panels may have, and of
which kind; TypeScript compares them. It needs node and npm, and says nothing about what Grafana draws.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cgroup_preflight.metrics.rules_files import shipped

PACKAGES = ("@grafana/schema@13.2.3", "typescript@5.9.3")
_PANEL = "./node_modules/@grafana/schema/dist/types/raw/composable"
_IMPORTS = f"""import type {{ Dashboard }} from '@grafana/schema';
import type {{ Options, FieldConfig }} from '{_PANEL}/timeseries/panelcfg/x/types.gen';
// JSON has the values of enumerations.
type Plain<T> = T extends string ? `${{T}}` : T extends number | boolean | null | undefined ? T
    : T extends readonly (infer U)[] ? Plain<U>[] : {{ [K in keyof T]: Plain<T[K]> }};
"""
_OPTIONS = (
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--moduleResolution",
    "bundler",
    "--module",
    "esnext",
    "--target",
    "es2022",
)


def source(board: dict[str, Any]) -> str:
    """Return the dashboard as a program that has an error for each deviation from the schema."""
    lines = [_IMPORTS, f"export const board: Dashboard = {json.dumps(board)};\n"]
    for panel in board["panels"]:
        if panel["type"] == "timeseries":
            lines.append(
                f"export const options{panel['id']}: Partial<Plain<Options>> = {json.dumps(panel['options'])};\n"
            )
            custom = panel["fieldConfig"]["defaults"].get("custom", {})
            lines.append(f"export const field{panel['id']}: Plain<FieldConfig> = {json.dumps(custom)};\n")
    return "".join(lines)


def errors(board: dict[str, Any], folder: Path) -> list[str]:
    """Return what the compiler says; `folder` has the packages. Raises OSError."""
    (folder / "board.ts").write_text(source(board))
    words = [str(folder / "node_modules" / ".bin" / "tsc"), *_OPTIONS, "board.ts"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def main() -> int:
    """Install the packages in a temporary folder and check; dashboards with a mistake must be refused."""
    board = json.loads(shipped("slices.dashboard.json"))
    with tempfile.TemporaryDirectory() as name:
        install = ["npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", name, *PACKAGES]
        subprocess.run(install, check=True, timeout=300)
        found = errors(board, Path(name))
        mistakes = [{**board, "graphTooltip": "one"}, {**board, "panles": []}, _with_option(board, "lineWidht", 1),
                    _with_option(board, "drawStyle", "lines")]  # fmt: skip
        missed = sum(not errors(wrong, Path(name)) for wrong in mistakes)
    print("\n".join(found) or f"the dashboard is what {PACKAGES[0]} describes")
    print(f"{len(mistakes) - missed} of {len(mistakes)} dashboards with a mistake were refused")
    return 1 if found or missed else 0


def _with_option(board: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """Return the dashboard with one more setting in its first graph."""
    changed: dict[str, Any] = json.loads(json.dumps(board))
    first = next(panel for panel in changed["panels"] if panel["type"] == "timeseries")
    first["fieldConfig"]["defaults"]["custom"][key] = value
    return changed


if __name__ == "__main__":
    sys.exit(main())
