"""Draw what a terminal shows of a run of the example, at 80 and at 120 columns. `python -m ci.terminal_pictures DIR`.

The command runs at a terminal of that width; Chromium draws what it wrote. Needs examples/shop built, and Chromium.
"""

import fcntl
import html
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

_WIDTHS = (80, 120)
_SECONDS = 600
_COMMAND = (sys.executable, "-m", "cgroup_preflight", "run", "--engine", "guest")
_SHOWN = "$ cgroup-preflight run --engine guest\n"
_STYLE = """body{margin:0;background:#0d1117}pre{display:inline-block;margin:0;padding:14px;color:#e6edf3;
font:14px/1.35 "DejaVu Sans Mono",monospace}.c1{font-weight:700}.c2{color:#8d96a0}.c31{color:#f85149}.c32{color:#3fb950}
.c33{color:#d29922}.c35{color:#a371f7}.c36{color:#39c5cf}"""
_SGR = re.compile(r"\x1b\[([0-9;]*)m")
_OTHER_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[78]")


def at_terminal(argv: tuple[str, ...], folder: Path, columns: int) -> str:
    """Return what a command writes to a terminal with this many columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "CI")}
    with subprocess.Popen(argv, cwd=folder, stdin=follower, stdout=follower, stderr=follower, close_fds=True,
                          env=environment | {"TERM": "xterm-256color"}) as process:  # fmt: skip
        os.close(follower)
        parts = []
        try:
            while part := os.read(leader, 1 << 16):
                parts.append(part)
        except OSError:
            pass  # the last end of the terminal was closed
        process.wait(_SECONDS)
    os.close(leader)
    return b"".join(parts).decode("utf-8", "replace")


def last_shown(text: str) -> str:
    """Return the lines as they stand at the end: what a progress line wrote over is gone."""
    lines = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    return "\n".join(line if _SGR.search(line) else _OTHER_SEQUENCES.sub("", line) for line in lines)


def page(text: str) -> str:
    """Return the text with its colours as a whole HTML page."""
    parts, is_open = [], False
    for number, part in enumerate(_SGR.split(text)):
        if number % 2 == 0:
            parts.append(html.escape(_OTHER_SEQUENCES.sub("", part)))
            continue
        parts.append("</span>" if is_open else "")
        is_open = part not in ("", "0")
        if is_open:
            parts.append('<span class="' + " ".join(f"c{code}" for code in part.split(";")) + '">')
    return f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style><pre>{''.join(parts)}</pre>"


def main(words: list[str]) -> int:
    """Write one picture for each width; exit status 0."""
    target, example = Path(words[0]), Path(__file__).parents[1] / "examples" / "shop"
    for columns in _WIDTHS:
        text = _SHOWN + last_shown(at_terminal(_COMMAND, example, columns))
        height = round((text.count("\n") + 1) * 14 * 1.35) + 28
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "page.html"
            source.write_text(page(text), "utf-8")
            subprocess.run(
                [shutil.which("chromium") or "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                 f"--user-data-dir={folder}/p", f"--window-size={round(columns * 8.43) + 28},{height}",
                 f"--screenshot={target.resolve()}/terminal-{columns}.png", source.as_uri()],
                check=True, capture_output=True, timeout=120,
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
