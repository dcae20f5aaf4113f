"""Configs, settings and plans from TOML text, through the loader that users go through."""

import re
from collections.abc import Iterable

from cgroup_preflight.config.load import parse
from cgroup_preflight.config.model import Config, Setting
from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.core.report import Finding


def config_of(text: str, *, folder: str = "/src", shown: str = "c.toml") -> Config:
    """The config in `text`; a `[project]` table is added below where there is none, so that lines stay."""
    whole = text if re.search(r"^\[?project", text, re.MULTILINE) else f'{text}\n[project]\nname = "shop"\n'
    return parse(whole.encode(), shown=shown, folder=folder)


def mistakes_of(text: str) -> tuple[Finding, ...]:
    """Every mistake the loader finds in `text`; none for a config that is in order."""
    try:
        config_of(text)
    except ConfigError as error:
        return error.findings
    return ()


def settings_of(**texts: str) -> tuple[Setting, ...]:
    """Settings as a slice of the config would have them: `settings_of(MemoryMax="1G")`."""
    lines = "\n".join(f'{name} = "{text}"' for name, text in texts.items())
    config = config_of(f"[smoke]\nallow_tiny_limits = true\n[slices.made]\n{lines}\n")
    return config.slices[0].settings


def one_setting(name: str, text: str) -> Setting:
    """One setting."""
    (setting,) = settings_of(**{name: text})
    return setting


def names(findings: Iterable[Finding]) -> list[str]:
    """The names of findings, in order."""
    return [item.name for item in findings]
