"""A throwaway Linux with systemd and cgroup v2 for machines that have none.

`recipe` and `image` make the root file system, `uml` and `qemu` spell the command lines, `session` boots and talks.
"""
