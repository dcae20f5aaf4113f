"""Where this tool keeps what outlives a run."""

import os


def log_folder(project: str) -> str:
    """The folder of the logs of a project: $XDG_STATE_HOME, by default ~/.local/state (XDG Base Directory)."""
    state = os.environ.get("XDG_STATE_HOME", "")
    top = state if os.path.isabs(state) else os.path.expanduser("~/.local/state")
    return os.path.join(top, "cgroup-preflight", project, "logs")
