"""How a shell finds the services of the config, without starting this tool."""

#: Names come from a file of the project: only those without a character that means something to a shell.
SERVICES = r"sed -n 's/^\[services\.\([A-Za-z0-9_-]*\)\].*/\1/p' cgroup-preflight.toml 2>/dev/null"
