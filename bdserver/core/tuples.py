"""NamedTuple, as typing's, without its import: on the way of a local `bdwhereis` typing would cost two milliseconds.

A class statement that makes a tuple with named fields of its annotations; methods, defaults, `_fields` and `_replace` as with
typing.NamedTuple, which is what a type checker sees here. collections.namedtuple compiles a constructor for each class: for the
twenty-five types of messages that is a millisecond at each start; here they share one.
"""

from __future__ import annotations

from operator import itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class _Meta(type):
        def __new__(meta, name, bases, body):
            if "__annotations__" in body or bases != (tuple,):
                fields = tuple(body.pop("__annotations__", ()))
                body["_defaults"] = {field: body.pop(field) for field in fields if field in body}
                body["_fields"] = body["__match_args__"] = fields
                body["_count"] = len(fields)
                body |= {field: property(itemgetter(number)) for number, field in enumerate(fields)}
            return super().__new__(meta, name, bases, {"__slots__": (), **body})

    class NamedTuple(tuple, metaclass=_Meta):
        """See the head of the module."""

        def __new__(cls, *values, **named):
            if named or len(values) != cls._count:
                fields = cls._fields
                given = {**cls._defaults, **dict(zip(fields, values, strict=False)), **named}
                if len(values) > len(fields) or given.keys() != set(fields) or named.keys() & fields[: len(values)]:
                    raise TypeError(f"{cls.__name__} takes {', '.join(fields)}")
                values = [given[field] for field in fields]
            return tuple.__new__(cls, values)

        def _replace(self, **changes):
            return type(self)(**{**dict(zip(self._fields, self, strict=True)), **changes})

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in zip(self._fields, self, strict=True))})"
