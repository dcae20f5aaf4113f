"""A throwaway Linux VM with systemd and cgroup v2, for machines that have neither.

`recipe` and `image` build the root file system, `uml` and `qemu` make the command lines, `machine` and `session` boot a
guest and run commands in it, `run` tests a project in it, `findings` adds the result to the report.
"""
