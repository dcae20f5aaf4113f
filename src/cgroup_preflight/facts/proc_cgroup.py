"""/proc/PID/cgroup (cgroups(7)): one line a hierarchy, `0::` is version 2."""


def parse_proc_cgroup(text: str) -> str:
    """The path of the `0::` line, as the reader's cgroup namespace shows it.

    Raises ValueError where there is none (pure version 1) or a line is not of the documented form.
    """
    path = None
    for line in filter(None, text.split("\n")):
        number, first, rest = line.partition(":")
        controllers, second, name = rest.partition(":")
        if not first or not second or not number.isdigit():
            raise ValueError(f"not a cgroup line: {line[:80]!r}")
        if number == "0" and not controllers:
            path = name
    if path is None or not path.startswith("/"):
        raise ValueError("no 0:: line: no cgroup v2 hierarchy")
    return path.removesuffix(" (deleted)")
