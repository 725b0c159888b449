"""NamedTuple, as typing's, without its import: on the way of a local `bdwhereis` typing would cost two milliseconds.

A class statement that makes a namedtuple of its annotations; methods and defaults as with typing.NamedTuple, which is
what a type checker sees here."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:

    class _Meta(type):
        def __new__(meta, name, bases, body):
            if not bases:
                return super().__new__(meta, name, bases, body)
            fields = body.pop("__annotations__", {})
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            return type(name, (made,), {"__slots__": (), **body})

    class NamedTuple(metaclass=_Meta):
        """See the head of the module."""
