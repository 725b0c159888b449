"""KEY=VALUE files: bdserverd.conf, audit.conf, each .bdcert.

One pair a line, `#` comments, keys in lower case, values as they are. What is written is read back the same, or not written.
What a pair means is its reader's business.
"""

from __future__ import annotations

from bdserver.errors import BadConfig
from bdserver.files import durable
from bdserver.files.lines import SHOWN_CHARACTERS_MAX, content, ending, numbered

TYPE_CHECKING = False  # as typing's, whose import would cost bdwhereis two milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def read(path: str, *, follow: bool = True, quotes: bool = True) -> list[tuple[int, str, str]]:
    """(line, key, value) of each pair; BadConfig has one `FILE:LINE: …` line for each line that is something else.

    Without `follow`, the file must not be a symbolic link. Without `quotes`, no complaint shows what stands in it."""
    found = list(parsed(content(path, follow=follow)[0], quotes=quotes))
    complaints = [f"{durable.shown(path)}:{number}: {complaint}" for number, _, _, complaint in found if complaint]
    if complaints:
        raise BadConfig("\n".join(complaints))
    return [(number, key, value) for number, key, value, _ in found]


def parsed(data: bytes, *, quotes: bool = True) -> Iterator[tuple[int, str, str, str]]:
    """(line, key, value, "") of each pair, and (line, "", "", complaint) of each line that is neither blank nor comment."""
    for number, line, complaint in numbered(data):
        key, equals, value = (part.strip() for part in line.partition("="))
        if complaint:
            yield number, "", "", complaint
        elif line.startswith("#"):
            continue
        elif equals and key:
            yield number, key.lower(), value, ""
        else:
            yield number, "", "", f"not KEY=VALUE: {line[:SHOWN_CHARACTERS_MAX]!r}" if quotes else "not KEY=VALUE"


def write(path: str, pairs: Iterable[tuple[str, str]]) -> None:
    """Write a file of these pairs so that it is there whole or not at all, with an ending (lines). NoSpace when the disk does
    not take it; BadConfig for a pair that would not be read back the same."""
    rows = b"".join(_line(path, key, value) for key, value in pairs)
    durable.replace(path, [rows, ending(rows)])


def _line(path: str, key: str, value: str) -> bytes:
    try:
        data = f"{key}={value}\n".encode()
    except UnicodeEncodeError:
        data = b""
    if list(parsed(data)) != [(1, key, value, "")]:
        raise BadConfig(f"{durable.shown(path)}: {key[:SHOWN_CHARACTERS_MAX]!r} has a value that a KEY=VALUE line can't hold")
    return data
