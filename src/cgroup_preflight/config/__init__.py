"""Config: the typed model, its loader (all mistakes at once, with lines) and its JSON Schema."""

FILE_NAME = "cgroup-preflight.toml"
