"""A JSON value in a file of our own, read as one that came from a stranger: who knows what has become of the file.

What is read here is told in answers, compared with the clock and counted with. So a number is one that travels, a text one that
can be written again, and nothing nests without end. What the value means is the business of the file's own module.
"""

from __future__ import annotations

from typing import Any

from bdserver.core.wire import read_text
from bdserver.errors import BadFrame, TooLarge


def value_in(data: bytes) -> Any:
    """The value; ValueError when that is none which we would have written."""
    try:
        return read_text(data)
    except (BadFrame, TooLarge) as error:
        raise ValueError(str(error)) from None
