"""Config: the typed model, its loader (all mistakes at once, with lines) and its JSON Schema."""

FILE_NAME = "cgroup-preflight.toml"
#: What a host must offer where no config says otherwise.
DEFAULT_CONTROLLERS = ("memory", "cpu")
#: The system of a guest where nobody names one.
DEFAULT_DISTRO = "debian-12"
