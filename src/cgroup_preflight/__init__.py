"""cgroup-preflight: proves, before the merge, that cgroup v2 limits reach the kernel."""

__version__ = "0.1.0"
