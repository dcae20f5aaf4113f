"""Dataclasses that start quickly: `import dataclasses` takes longer than Python takes to start, and each of its classes
a millisecond, which is ten on an emulated CPU.

They do what this project uses of the standard library's (keyword arguments, defaults, equality, frozen,
`__post_init__`, `dataclasses.replace`, `fields` and `asdict`), with closures instead of source text that is compiled for each class.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import asdict as asdict
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
else:

    def asdict(item):
        """As `dataclasses.asdict`, of one that contains no others."""
        return {name: getattr(item, name) for name in item.__slots__}

    def replace(item, **changes):
        """As `dataclasses.replace`, which would make the standard library build each class again."""
        return type(item)(**{name: getattr(item, name) for name in item.__slots__} | changes)

    class _Factory:
        def __init__(self, make) -> None:
            self.make = make

    def field(*, default_factory):
        """A default that is made for each object."""
        return _Factory(default_factory)

    def dataclass(*, frozen, slots, kw_only=False):
        """As `dataclasses.dataclass`; frozen and with slots, as all here are."""
        assert frozen
        assert slots
        return lambda cls: _made(cls, positional=not kw_only)

    class _Fields:
        """`__dataclass_fields__`, made by the standard library at the first use."""

        def __get__(self, instance, owner):
            import dataclasses

            fields = dataclasses.make_dataclass(owner.__name__, owner.__slots__).__dataclass_fields__
            owner.__dataclass_fields__ = fields
            return fields

    def _made(cls, *, positional):
        names = tuple(cls.__annotations__)
        space = {key: value for key, value in cls.__dict__.items() if key not in ("__dict__", "__weakref__")}
        defaults = {name: space.pop(name) for name in names if name in space}
        slots = []
        # As there, an `__init__` of the class itself is kept.
        space.setdefault("__init__", _init(names, defaults, slots, positional=positional))
        space |= {
            "__slots__": names,
            "__dataclass_fields__": _Fields(), "__eq__": _equal, "__hash__": _hash, "__repr__": _repr,
            "__setattr__": _refuse, "__delattr__": _refuse,
        }  # fmt: skip
        made = type(cls)(cls.__name__, cls.__bases__, space)
        slots += [(name, made.__dict__[name].__set__) for name in names]
        if "__post_init__" in space:
            made.__init__ = _checked(made.__init__)
        return made

    def _checked(init):
        def __init__(self, *args, **values) -> None:
            init(self, *args, **values)
            self.__post_init__()

        return __init__

    def _init(names, defaults, slots, *, positional):
        known, put, count = frozenset(names), object.__setattr__, len(names)

        def __init__(self, *args, **values) -> None:
            if args:
                if not positional or len(args) > len(names):
                    raise TypeError(f"{type(self).__name__} does not take these positional arguments")
                values = dict(zip(names, args, strict=False)) | values
            if len(values) == count and values.keys() == known:
                # The usual call, twice as fast: the exporter makes a thousand records at a scrape.
                for name, set_slot in slots:
                    set_slot(self, values[name])
                return
            if not values.keys() <= known:
                raise TypeError(f"{type(self).__name__} has no {', '.join(values.keys() - known)}")
            for name in names:
                value = values[name] if name in values else defaults.get(name, _Factory)
                if value is _Factory:
                    raise TypeError(f"{type(self).__name__} needs {name}")
                put(self, name, value.make() if type(value) is _Factory else value)

        return __init__

    def _values(self):
        return tuple(getattr(self, name) for name in self.__slots__)

    def _equal(self, other):
        return _values(self) == _values(other) if type(other) is type(self) else NotImplemented

    def _hash(self):
        return hash(_values(self))

    def _repr(self):
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def _refuse(self, name, value=None):
        raise AttributeError(f"{type(self).__name__} is frozen: {name}")
