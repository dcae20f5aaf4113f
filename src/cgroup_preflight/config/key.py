"""What one key of the config is, and one table of it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from cgroup_preflight.core.records import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key: `kind` is the TOML type, `parse` turns its text into the model's value or raises QuantityError.

    `default` (None: there is none), `examples` and `schema`, which adds to the JSON Schema of the kind, are for editors.
    """

    name: str
    kind: str
    doc: str
    parse: Callable[[str], object] = str
    required: bool = False
    default: object = None
    examples: tuple[object, ...] = ()
    schema: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    is_property: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table of the file: what it is for, and its keys."""

    doc: str
    keys: tuple[Key, ...]
