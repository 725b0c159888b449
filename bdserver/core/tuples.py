"""NamedTuple, as typing's, and cheaper to import: a class statement that makes a tuple with named fields of its annotations;
methods, defaults, `_fields`, `_replace` and the like as with typing.NamedTuple, which is what a type checker sees here.

typing's own import would cost a local `bdwhereis` two milliseconds. And for each class it compiles each annotation, and a
constructor: for the hundred and more classes that a listener imports, a sixth of the start of our own modules. Here all classes
with the same number of fields share one compiled constructor, of which each gets a copy with the names of its own fields.
"""

from __future__ import annotations

from _collections import _tuplegetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    _constructors = {}

    def _constructor(name, fields, defaults):
        """What makes a tuple of these fields, as this class's."""
        count = len(fields)
        if count not in _constructors:
            values = "".join(f"_{number}," for number in range(count))
            _constructors[count] = eval(f"lambda _cls, {values}: _new(_cls, ({values}))", {"_new": tuple.__new__})
        shared = _constructors[count]
        code = shared.__code__.replace(co_name="__new__", co_qualname=f"{name}.__new__", co_varnames=("_cls", *fields))
        return type(shared)(code, shared.__globals__, "__new__", defaults)

    class _Meta(type):
        def __new__(meta, name, bases, body):
            if bases != (tuple,) and not hasattr(bases[0], "_fields"):
                fields = tuple(body.pop("__annotations__", ()))
                defaults = {field: body.pop(field) for field in fields if field in body}
                body["__new__"] = _constructor(name, fields, tuple(defaults.values()))
                body["_fields"] = body["__match_args__"] = fields
                body["_field_defaults"] = defaults
                body |= {field: _tuplegetter(number, "") for number, field in enumerate(fields)}
            return super().__new__(meta, name, bases, {"__slots__": (), **body})

    class NamedTuple(tuple, metaclass=_Meta):
        """See the head of the module."""

        @classmethod
        def _make(cls, values):
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} takes {', '.join(cls._fields)}")
            return made

        def _replace(self, **changes):
            made = tuple.__new__(type(self), map(changes.pop, self._fields, self))
            if changes:
                raise TypeError(f"{type(self).__name__} takes {', '.join(self._fields)}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in zip(self._fields, self, strict=True))})"
