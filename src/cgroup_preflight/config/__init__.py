"""Config: the typed model, its loader (all mistakes at once, with lines) and its JSON Schema."""

FILE_NAME = "cgroup-preflight.toml"
#: What a host must offer where no config says otherwise.
DEFAULT_CONTROLLERS = ("memory", "cpu")
