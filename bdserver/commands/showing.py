"""What bdctl prints of `status`, `nodes` and `ping`: lines for a person, or what is to be printed as JSON.

Of answers as they travel, since the short way of bdctl has no time to import core.messages: in its place `check` sees to it
that what is shown here has the right types. Nothing is imported here but, for JSON, the shape of nodes, and nothing printed.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_TEXT, _NUMBER, _FLAG, _LIST, _OBJECT = (str,), (int, float), (bool,), (list,), (dict,)
# As in core.messages: STATUS of the node asked, of each of its services, and of each node that it knows.
_OWN = {
    "address": _TEXT, "name": _TEXT, "mesh": _TEXT, "version": _LIST, "software": _TEXT, "nodes": (int,), "weight": _NUMBER,
    "receiver_threshold": _NUMBER, "overloaded": _FLAG, "draining": _FLAG, "free_dynamic": (int,), "uptime": _NUMBER,
    "certificate_days_left": _NUMBER, "complaints": _LIST, "warnings": _LIST, "services": _OBJECT,
}  # fmt: skip
_OFFER = {"type": _TEXT, "weight": _NUMBER, "cost": _NUMBER, "healthy": _FLAG, "url": _TEXT}
_SEEN = {
    "address": _TEXT, "name": (str, type(None)), "status": _TEXT, "version": _LIST, "services": _LIST, "types": _OBJECT,
    "urls": _OBJECT, "free_dynamic": (int,), "talkable": _FLAG, "draining": _FLAG, "heard_at": _NUMBER,
}  # fmt: skip


def check(said: "list[Any]") -> None:
    """Whether this is a whole STATUS of the right types; ValueError, or nearly any exception, when it is not."""
    own, nodes, *more = said[1:]
    _check(own, _OWN)
    for offer in own["services"].values():
        _check(offer, _OFFER)
    texts = [*own["warnings"], *own["complaints"]]
    for node in nodes:
        _check(node, _SEEN)
        texts += [*node["services"], *(node[each][name] for name in node["services"] for each in ("types", "urls"))]
    lag, rates = own.get("lag", 0.0), own.get("rates", {})
    if type(rates) is not dict or not all(type(rate) in _NUMBER for rate in rates.values()):
        raise ValueError
    if more or type(nodes) is not list or not all(type(text) is str for text in texts) or type(lag) not in _NUMBER:
        raise ValueError


def _check(fields: "Mapping[str, Any]", types: "Mapping[str, tuple[type, ...]]") -> None:
    if not all(type(fields[name]) in right for name, right in types.items()):
        raise ValueError


def pings(results: "list[tuple[str, str, float]]", is_json: bool) -> "list[Any]":
    """Of (address, PONG or what there was instead, seconds)."""
    if is_json:
        return [{"address": address, "answer": word, "ms": round(1000 * seconds, 1)} for address, word, seconds in results]
    # What a node says of a silent one may begin with its address.
    said = [(address, word.removeprefix(f"{address}: "), seconds) for address, word, seconds in results]
    return [f"{address}: {word} in {1000 * seconds:.1f} ms" for address, word, seconds in said]


def _days_left(days: float) -> str:
    if days <= 0:
        return "over"
    return (f"{days:.0f} days" if days >= 2 else duration(86400 * days)) + " left"


def _signed(certificate: "dict[str, Any]") -> str:
    """Who signed it; older nodes do not tell."""
    signer = certificate.get("signer")
    by = f", signed by {signer} and renewed by itself" if signer else ""
    return by + ("; it signs for others" if certificate.get("signs") else "")


def status(state: "dict[str, Any]", is_json: bool) -> "Any":
    """How the node is, at a glance."""
    if is_json:
        return state
    load = "overloaded" if state["overloaded"] else "has room"
    lines = [
        f"{state['name']} of {state['mesh']} at {state['address']}, BDserver {state['software']}",
        f"  up {duration(state['uptime'])}, nodes known: {state['nodes']} (itself too)",
        f"  weight {state['weight']:g} of {state['receiver_threshold']:g}: {load}{', draining' * state['draining']}",
        f"  free dynamic slots: {state['free_dynamic']}",
        f"  certificate: {_days_left(state['certificate_days_left'])}{_signed(state.get('certificate', {}))}",
    ]
    lines += [f"  the CA is rolled: {roll}" for roll in state.get("roll", [])]
    if "lag" in state:  # older nodes do not tell
        lines.append(f"  loop: at most {1000 * state['lag']:.0f} ms late")
    if state.get("rates"):
        lines.append(f"  {_rates(state['rates'])}")
    lines += [f"  WARNING: {warning}" for warning in state["warnings"]] or ["  well: nothing needs attention"]
    notes = [each for each in state.get("findings", []) if each.get("severity") == "note"]  # older nodes tell none
    lines += [f"  note: {each.get('text')}" + (f": {each['remedy']}" if each.get("remedy") else "") for each in notes]
    rows = [
        [
            name,
            ", ".join([each["type"], *(mark for mark in ("stale", "orphan", "withdrawn") if each.get(mark))]),
            f"{each['weight']:g}",
            f"{each['cost']:g}",
            _health(each),
            _holders(each),
            _edition(each),
            each["url"],
        ]
        for name, each in state["services"].items()
    ]
    heads = ["service", "type", "weight", "cost", "healthy", "holders", "edition", "url"]
    return lines + (table(rows, heads) if rows else [])


def _holders(offer: "dict[str, Any]") -> str:
    """How many living nodes have it, of how many that are wanted. Older nodes do not tell."""
    living, wanted = offer.get("living"), offer.get("wanted")
    return "-" if living is None else f"{living} of {wanted}" if wanted else str(living)


def _edition(offer: "dict[str, Any]") -> str:
    """The first digits of its digest; nothing to copy has none, and older nodes do not tell."""
    said = offer.get("edition")
    return str(said[1]) if type(said) is list and len(said) == 2 and said[1] else "-"


def _rates(rates: "dict[str, float]") -> str:
    """Of the last minute; what a newer or older node tells in other words is passed over."""

    def rate(key: str) -> float:
        said = rates.get(key)
        return said if isinstance(said, int | float) else 0.0

    mean = rate("lookup_seconds")
    lookups = f"{rate('lookups'):.1f} look-ups" + (f" (of {1000 * mean:.1f} ms)" if mean else "")
    kilobytes = (f"{rate(key) / 1000:.1f} kB {word}" for key, word in (("received", "in"), ("sent", "out")))
    return f"a second: {rate('requests'):.1f} requests, {lookups}, {', '.join(kilobytes)}"


def _health(offer: "dict[str, Any]") -> str:
    """A service that nobody checks is said to be so: its web server may be gone. Older nodes do not tell."""
    if not offer["healthy"]:
        return "NO"
    return "yes" if offer.get("checked", True) else "not checked"


def visible(line: str) -> str:
    """A line as it is shown: what nodes tell of themselves must not move the terminal."""
    if line.isprintable():
        return line
    from bdserver.errors import one_line

    return one_line(line, len(line))


def duration(seconds: float) -> str:
    """In the largest unit of which there are two."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def nodes(own: "dict[str, Any]", known: "Iterable[dict[str, Any]]", now: float, is_json: bool) -> "list[Any]":
    """All nodes that the node of this `own` status knows."""
    if is_json:
        from bdserver.core import shapes

        return shapes.nodes(known)
    rows = [
        [
            node["name"] or "?",
            node["address"],
            node["status"] + ", draining" * node["draining"] + ", not talkable" * (not node["talkable"]),
            node["free_dynamic"],
            "itself" if node["name"] == own["name"] else _heard(node["heard_at"], now),
            _names(node),
        ]
        for node in sorted(known, key=lambda node: (node["name"] or "", node["address"]))
    ]
    return table(rows, ["name", "address", "status", "free", "heard", "services"])


def _names(node: "dict[str, Any]") -> str:
    """Of its services; a node may have more than can be told of it."""
    more = [f"and {node['left_out']} more"] if node.get("left_out") else []
    return " ".join([*node["services"], *more]) or "-"


def _heard(at: float, now: float) -> str:
    return f"{duration(max(now - at, 0))} ago" if at else "never"


def table(rows: "list[list[Any]]", heads: "list[str]") -> "list[str]":
    """Columns as wide as they must be, on whatever width the terminal has."""
    texts = [heads, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in texts) for i in range(len(heads))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]
