"""Records the environments of the matrix into tests/hosts: `python tests/lab/record_hosts.py [NAME...]`."""

import sys
from pathlib import Path

from tests.lab.environments import ENVIRONMENTS, Stage, command_environment

_REPOSITORY = Path(__file__).parents[2]
_HOSTS = _REPOSITORY / "tests" / "hosts"


def main(names: list[str]) -> int:
    """Records those named, by default all; 2 for a name that is none."""
    chosen = [item for item in ENVIRONMENTS if item.name in names or not names]
    if len(chosen) < len(set(names)):
        sys.stderr.write(f"one of: {' '.join(item.name for item in ENVIRONMENTS)}\n")
        return 2
    with Stage({"src": _REPOSITORY / "src"}) as stage:
        for environment in chosen:
            with environment.run(stage.guest(environment)) as run:
                done = run(["python3", "-m", "cgroup_preflight", "snapshot"], command_environment())
            assert done.returncode == 0, done
            (_HOSTS / f"{environment.name}.json").write_bytes(done.stdout)
            sys.stdout.write(f"{environment.name}: {len(done.stdout)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
