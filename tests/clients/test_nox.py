"""The two lines that docs/publishing.md offers for a noxfile of one's own, run as they stand there."""

import os
import re
import sys

from tests.clients.helpers import ROOT, clean_environment, run


def test_the_two_lines_for_users(tmp_path, wheel):
    lines = re.search(r"## nox, in two lines\n\n((?:    .*\n)+)", (ROOT / "docs" / "publishing.md").read_text("utf-8"))[
        1
    ]
    (tmp_path / "noxfile.py").write_text(
        "import nox\n\n" + "".join(line[4:] for line in lines.splitlines(keepends=True))
    )
    environment = clean_environment(tmp_path) | {
        "PIP_FIND_LINKS": f"{wheel.parent} {os.environ.get('PIP_FIND_LINKS', '')}",
        "NOX_DEFAULT_VENV_BACKEND": "venv",
    }
    done = run([sys.executable, "-m", "nox", "-s", "preflight", "--", "--help"], tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "usage: cgroup-preflight run" in done.stdout
