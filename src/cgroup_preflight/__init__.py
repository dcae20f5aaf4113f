"""cgroup-preflight: proves, before the merge, that cgroup v2 limits reach the kernel."""

__version__ = "0.1.0"
#: Where the project is; the same as in pyproject.toml, and changed there and here by `python -m ci.address URL`.
ADDRESS = "https://github.com/org/cgroup-preflight"
