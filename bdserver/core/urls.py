"""URLs that travel: what any program of the mesh, and each that reads what it exports, can take apart in one way alone.

A URL is told by its node, and goes into records, answers, shells, browsers, and the configs of balancers. So whoever takes one
in asks the same of it as who publishes it. Whether anybody answers there is another question.
"""

from __future__ import annotations

URL_CHARACTERS_MAX = 2000
# What a template may have in braces, and something that stands for it.
FILLED_IN = {"{host}": "host", "{axis_port}": "80", "{axis_web_dir}": "dir", "{service}": "service"}
# RFC 3986 has none of them; each ends a URL somewhere, or begins something else.
_UNFIT = frozenset(' "<>\\')


def is_part(text: str) -> bool:
    """Whether it may stand in a URL: one word, all of it to be seen."""
    return text.isprintable() and _UNFIT.isdisjoint(text)


def is_url(text: str) -> bool:
    """Whether this may be a service's URL, or a template of it: SCHEME://HOST[:PORT]…"""
    if len(text) > URL_CHARACTERS_MAX or not is_part(text):
        return False
    from urllib.parse import urlsplit  # here: imports that bdwhereis does without

    from bdserver.core.address import normal_host
    from bdserver.errors import BadRequest

    for name, value in FILLED_IN.items():
        text = text.replace(name, value)
    try:
        parts = urlsplit(text)
        normal_host(parts.hostname or "")
        return bool(parts.scheme) and parts.port != 0
    except (ValueError, BadRequest):  # a [ without its ], a port above 65535, a host that is none
        return False
