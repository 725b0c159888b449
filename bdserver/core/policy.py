"""WS-Policy: read a document into normal form, intersect, and say whether two parties can talk.

WS-Policy 1.2 and 1.5, also mixed (WS-Policy 1.5 Framework, sections 4.3 to 4.5). A policy is a set of alternatives, an
alternative a set of assertions. Three things differ: an empty alternative asks for nothing, a policy without alternatives
can be met by nobody, and no policy at all (None) talks to everyone, as in 2006. Documents come from strangers: every step
has a limit, and nothing but BadPolicy and TooLarge comes out. Expat reads the XML; there is no DOCTYPE, no entity, no
reference out of the document.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any
from xml.parsers import expat

from bdserver.errors import BadPolicy, TooLarge

# A policy is read before any request is: 64 KiB hold 400 assertions, and nobody has been seen with more than 20.
TEXT_BYTES_MAX = 64 * 1024
# Of elements, and of references that lead to references.
DEPTH_MAX = 32
# After normalising; three independent choices of four are 64.
ALTERNATIVES_MAX = 64
# In one alternative.
ASSERTIONS_MAX = 32
# Comparisons of two assertions in one intersection, 64 x 64 alternatives of a few assertions each; and the assertions that are
# handled while a document becomes its normal form: a tenth of a second.
STEPS_MAX = 200_000
# Of an assertion with all that is nested in it: what is referred to counts each time.
SIZE_MAX = 10_000
REMEMBERED_PAIRS_MAX = 8192

NAMESPACES = ("http://schemas.xmlsoap.org/ws/2004/09/policy", "http://www.w3.org/ns/ws-policy")
_UTILITY = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
_IDS = (f"{_UTILITY} Id", "http://www.w3.org/XML/1998/namespace id")
_OPERATORS = ("Policy", "All", "ExactlyOne")


class Assertion:
    """One requirement. `name`: "{namespace}local"; `nested`: None, or the one alternative of its nested policy;
    `content`: its attributes and parameters, of which intersection takes no notice.

    Equal when they say the same. That is told by `key`, a digest: a nested policy that is referred to a thousand times would
    be compared a thousand times, and each level a thousand times more. `size` counts it and all that is nested in it."""

    __slots__ = ("content", "ignorable", "key", "name", "nested", "size")

    def __init__(self, name: str, nested: Alternative | None, ignorable: bool, content: str) -> None:
        self.name, self.nested, self.ignorable, self.content = name, nested, ignorable, content
        below = None if nested is None else [each.key for each in nested]
        text = repr((name, below, ignorable, content)).encode("utf-8", "surrogatepass")
        self.key: tuple[str, str] = name, sha256(text).hexdigest()
        self.size: int = 1 + sum(each.size for each in nested or ())
        if self.size > SIZE_MAX:
            raise TooLarge(f"a policy in which an assertion holds more than {SIZE_MAX} others")

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Assertion) and self.key == other.key)

    def __lt__(self, other: Assertion) -> bool:
        return self.key < other.key

    def __repr__(self) -> str:
        return _show_assertion(self)


Alternative = tuple[Assertion, ...]


class Policy:
    """Alternatives in normal form: sorted, without repetition, hashable; equal when they say the same, which `key`, a digest,
    tells."""

    __slots__ = ("alternatives", "key")

    def __init__(self, alternatives: Iterable[Alternative]) -> None:
        self.alternatives: tuple[Alternative, ...] = tuple(sorted(set(alternatives)))
        keys = [[each.key for each in alternative] for alternative in self.alternatives]
        self.key: str = sha256(repr(keys).encode("utf-8", "surrogatepass")).hexdigest()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Policy) and self.key == other.key)

    def __repr__(self) -> str:
        return f"Policy({show(self)})"


# --- what two policies have in common -----------------------------------------------------------------------------


def intersect(a: Policy, b: Policy, mode: str = "lax") -> Policy:
    """The policy of all pairs of alternatives that are compatible, each with the assertions of both (section 4.5)."""
    return Policy(_alternative([*x, *y]) for x, y in _compatible_pairs(a, b, mode))


# Which pairs meet, by their keys: a policy of strangers takes up to a megabyte, and is let go with its caller.
_met: dict[tuple[str, str, str], bool | str] = {}


def can_talk(a: Policy | None, b: Policy | None, mode: str = "lax") -> bool:
    """Whether two parties' policies meet; a side without a policy talks to everyone. Pairs are remembered, TooLarge as well."""
    if a is None or b is None:
        return True
    pair = a.key, b.key, mode
    met = _met.get(pair)
    if met is None:
        if len(_met) >= REMEMBERED_PAIRS_MAX:
            _met.clear()
        met = _met[pair] = _meet(a, b, mode)
    if isinstance(met, str):
        raise TooLarge(met)
    return met


def _meet(a: Policy, b: Policy, mode: str) -> bool | str:
    """The text of a TooLarge, where it takes too many steps to find out: whoever causes that does so again at each request."""
    try:
        return any(True for _ in _compatible_pairs(a, b, mode))
    except TooLarge as error:
        return str(error)


def _compatible_pairs(a: Policy, b: Policy, mode: str) -> Iterator[tuple[Alternative, Alternative]]:
    steps = itertools.count(1)
    for x, y in itertools.product(a.alternatives, b.alternatives):
        if _compatible(x, y, mode, steps):
            yield x, y


def _compatible(x: Alternative, y: Alternative, mode: str, steps: Iterator[int]) -> bool:
    """Each assertion of one that counts has a compatible one in the other; in lax mode ignorable ones do not count."""
    return _is_covered(x, y, mode, steps) and _is_covered(y, x, mode, steps)


def _is_covered(x: Alternative, y: Alternative, mode: str, steps: Iterator[int]) -> bool:
    for assertion in x:
        if next(steps) > STEPS_MAX:
            raise TooLarge(f"comparing two policies takes more than {STEPS_MAX} steps")
        if assertion.ignorable and mode == "lax":
            continue
        if not any(assertion.name == other.name and _nested_meet(assertion, other, mode, steps) for other in y):
            return False
    return True


def _nested_meet(a: Assertion, b: Assertion, mode: str, steps: Iterator[int]) -> bool:
    if a.nested is None or b.nested is None:
        return a.nested is None and b.nested is None
    return _compatible(a.nested, b.nested, mode, steps)


def alone(a: Policy, b: Policy, mode: str = "lax") -> list[str]:
    """Names of the assertions of `a` that nothing in `b` is compatible with: why two policies do not meet."""
    steps = itertools.count(1)
    others = tuple({other for alternative in b.alternatives for other in alternative})
    ours = {assertion for alternative in a.alternatives for assertion in alternative}
    return sorted({each.name for each in ours if not _is_covered((each,), others, mode, steps)})


# --- normal form --------------------------------------------------------------------------------------------------


def _alternative(assertions: Iterable[Assertion]) -> Alternative:
    return tuple(sorted(set(assertions)))


class _Budget:
    """Counts the work of one document."""

    def __init__(self) -> None:
        self._left = STEPS_MAX

    def spend(self, steps: int) -> None:
        """TooLarge when it is too much."""
        self._left -= steps
        if self._left < 0:
            raise TooLarge(f"a policy whose normal form takes more than {STEPS_MAX} steps")


# Asks for nothing: to combine it with others changes nothing, and costs nothing.
_NOTHING: list[Alternative] = [()]


def _product(choices: Iterable[list[Alternative]], budget: _Budget) -> list[Alternative]:
    """All: one alternative of each child, in every combination; limits are looked at before each multiplication."""
    found: dict[Alternative, None] = {(): None}
    for alternatives in choices:
        if alternatives == _NOTHING:
            continue
        combined: dict[Alternative, None] = {}
        for x, y in itertools.product(found, alternatives):
            budget.spend(1 + len(x) + len(y))
            both = _alternative([*x, *y])
            if len(both) > ASSERTIONS_MAX:
                raise TooLarge(f"a policy with more than {ASSERTIONS_MAX} assertions in one alternative")
            combined[both] = None
            if len(combined) > ALTERNATIVES_MAX:
                raise TooLarge(f"a policy with more than {ALTERNATIVES_MAX} alternatives")
        found = combined
    return list(found)


def _sum(choices: Iterable[list[Alternative]], budget: _Budget) -> list[Alternative]:
    """ExactlyOne: the alternatives of all children."""
    found: dict[Alternative, None] = {}
    for alternatives in choices:
        budget.spend(1 + len(alternatives))
        found.update(dict.fromkeys(alternatives))
        if len(found) > ALTERNATIVES_MAX:
            raise TooLarge(f"a policy with more than {ALTERNATIVES_MAX} alternatives")
    return list(found)


class _Normaliser:
    """Elements to alternatives. Every element is normalised once, however often it is referred to."""

    def __init__(self, source: str, by_id: dict[str, _Element]) -> None:
        self._source, self._by_id = source, by_id
        self._done: dict[int, list[Alternative]] = {}
        self._open: set[int] = set()
        self._budget = _Budget()

    def alternatives(self, element: _Element, depth: int = 0) -> list[Alternative]:
        """The normal form of an operator, a reference or an assertion."""
        if id(element) in self._done:
            return self._done[id(element)]
        if id(element) in self._open:
            raise BadPolicy(f"{self._source}:{element.line}: a policy that refers to itself")
        if depth > 2 * DEPTH_MAX:
            raise TooLarge(f"{self._source}:{element.line}: references nested deeper than {DEPTH_MAX}")
        self._open.add(id(element))
        found = self._alternatives(element, depth)
        self._open.discard(id(element))
        self._done[id(element)] = found
        return found

    def _alternatives(self, element: _Element, depth: int) -> list[Alternative]:
        if element.operator == "PolicyReference":
            return self.alternatives(self._referred(element), depth + 1)
        if element.operator is None:
            return self._of_assertion(element, depth)
        children = [self.alternatives(child, depth + 1) for child in element.children]
        found = (_sum if element.operator == "ExactlyOne" else _product)(children, self._budget)
        return self._or_nothing(found) if element.is_optional else found

    def _or_nothing(self, found: list[Alternative]) -> list[Alternative]:
        return _sum([found, _NOTHING], self._budget)

    def _of_assertion(self, element: _Element, depth: int) -> list[Alternative]:
        nested: list[Alternative | None] = [None]
        for child in element.children:
            if child.operator == "Policy":
                nested = [*self.alternatives(child, depth + 1)]
        content = element.content()
        found: list[Alternative] = [(Assertion(element.name, each, element.is_ignorable, content),) for each in nested]
        return self._or_nothing(found) if element.is_optional else _sum([found], self._budget)

    def _referred(self, element: _Element) -> _Element:
        uri = element.attributes.get("URI", "")
        target = self._by_id.get(uri.removeprefix("#") if uri.startswith("#") else f" {uri}")
        if target is None:
            raise BadPolicy(f"{self._source}:{element.line}: PolicyReference to {uri[:80]!r}, which is not in this document")
        return target


# --- reading ------------------------------------------------------------------------------------------------------


def parse(text: bytes | str, source: str = "policy") -> Policy:
    """A document's policy in normal form; BadPolicy("SOURCE:LINE: …") or TooLarge."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > TEXT_BYTES_MAX:
        raise TooLarge(f"{source}: a policy of more than {TEXT_BYTES_MAX} bytes")
    reader = _Reader(source, "utf-8" if isinstance(text, str) else None)
    root = reader.read(data)
    return Policy(_Normaliser(source, reader.by_id).alternatives(root))


def text_of(data: bytes) -> str:
    """A document as text, as it travels: UTF-16 becomes what everybody reads."""
    for mark in (b"\xff\xfe", b"\xfe\xff"):
        if data.startswith(mark):
            return data.decode("utf-16")
    if data[:2] in (b"<\0", b"\0<"):
        return data.decode("utf-16-le" if data[0] else "utf-16-be")
    return data.decode("utf-8-sig")


def digest(text: bytes | str) -> str:
    """How nodes name a policy to each other: the first 32 hex digits of the SHA-256 of its UTF-8 text."""
    return sha256(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text).hexdigest()[:32]


class _Element:
    __slots__ = ("attributes", "children", "is_ignorable", "is_optional", "line", "name", "operator", "texts")

    def __init__(self, name: str, operator: str | None, attributes: dict[str, str], line: int) -> None:
        self.name, self.operator, self.attributes, self.line = name, operator, attributes, line
        self.children: list[_Element] = []
        self.texts: list[str] = []
        self.is_optional = self.is_ignorable = False

    def content(self) -> str:
        """Attributes and parameters in one text; a nested policy is not among them."""
        below = [child.content_with_name() for child in self.children if child.operator != "Policy"]
        kept = sorted((key, value) for key, value in self.attributes.items() if key.split(" ")[0] not in NAMESPACES)
        text = "".join(self.texts).strip()
        return repr((kept, text, below)) if kept or text or below else ""

    def content_with_name(self) -> str:
        return self.name + self.content()


class _Reader:
    """Expat's events to a tree, each checked as it comes."""

    def __init__(self, source: str, encoding: str | None) -> None:
        self.by_id: dict[str, _Element] = {}
        self._source = source
        self._stack: list[_Element] = []
        self._root: _Element | None = None
        self._parser = parser = expat.ParserCreate(encoding, " ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        parser.XmlDeclHandler = self._declaration
        self._is_text = encoding is not None

    def read(self, data: bytes) -> _Element:
        """The root element."""
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            raise BadPolicy(f"{self._source}:{error.lineno}: {expat.errors.messages[error.code]}") from None
        assert self._root is not None
        return self._root

    def _bad(self, reason: str) -> BadPolicy:
        return BadPolicy(f"{self._source}:{self._parser.CurrentLineNumber}: {reason}")

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if not self._is_text and encoding is not None and encoding.lower() not in ("utf-8", "utf-16"):
            raise self._bad(f"encoding {encoding[:40]!r}: a policy is in UTF-8 or UTF-16")

    def _doctype(self, *_: Any) -> None:
        raise self._bad("a policy must not have a DOCTYPE")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._stack) >= DEPTH_MAX:
            raise TooLarge(f"{self._source}:{self._parser.CurrentLineNumber}: elements nested deeper than {DEPTH_MAX}")
        namespace, _, local = name.rpartition(" ")
        element = _Element(
            f"{{{namespace}}}{local}", self._operator(namespace, local), attributes, self._parser.CurrentLineNumber
        )
        self._read_flags(element)
        self._register(element)
        if not self._stack:
            if element.operator != "Policy":
                raise self._bad(f"the document is a {local[:60]!r}, and a wsp:Policy is wanted")
            self._root = element
        else:
            self._put_below(self._stack[-1], element)
        self._stack.append(element)

    def _operator(self, namespace: str, local: str) -> str | None:
        if namespace not in NAMESPACES:
            return None
        if local not in (*_OPERATORS, "PolicyReference") and not self._is_in_assertion():
            raise self._bad(f"wsp:{local[:60]} has no place in a policy")
        return local

    def _is_in_assertion(self) -> bool:
        return bool(self._stack) and self._stack[-1].operator not in _OPERATORS

    def _put_below(self, parent: _Element, element: _Element) -> None:
        if parent.operator == "PolicyReference":
            raise self._bad("a PolicyReference must be empty")
        if parent.operator is None and element.operator == "Policy" and any(c.operator == "Policy" for c in parent.children):
            raise self._bad("an assertion with two nested policies")
        parent.children.append(element)

    def _read_flags(self, element: _Element) -> None:
        for namespace in NAMESPACES:
            for flag in ("Optional", "Ignorable"):
                value = element.attributes.get(f"{namespace} {flag}")
                if value is None:
                    continue
                if value.strip() not in ("true", "1", "false", "0"):
                    raise self._bad(f"wsp:{flag}={value[:40]!r} is neither true nor false")
                if value.strip() in ("true", "1"):
                    setattr(element, f"is_{flag.lower()}", True)

    def _register(self, element: _Element) -> None:
        if element.operator != "Policy":
            return
        keys = [element.attributes[key] for key in _IDS if key in element.attributes]
        keys += [" " + element.attributes["Name"]] if "Name" in element.attributes else []
        for key in keys:
            if key in self.by_id:
                raise self._bad(f"a second policy with the name {key.strip()[:60]!r}")
            self.by_id[key] = element

    def _end(self, name: str) -> None:
        element = self._stack.pop()
        if element.operator in _OPERATORS and "".join(element.texts).strip():
            raise self._bad(f"text in a wsp:{element.operator}")

    def _characters(self, text: str) -> None:
        self._stack[-1].texts.append(text)


# --- showing ------------------------------------------------------------------------------------------------------


def show(policy: Policy | None) -> str:
    """The original's form: `(a /\\ b) V (c)`; NULL without alternatives. A nested policy stands in brackets, what may be
    ignored has a question mark."""
    if policy is None:
        return "no policy"
    return " V ".join(f"({_show(alternative)})" for alternative in policy.alternatives) or "NULL"


def _show(alternative: Alternative) -> str:
    return " /\\ ".join(_show_assertion(assertion) for assertion in alternative)


def _show_assertion(assertion: Assertion) -> str:
    nested = "" if assertion.nested is None else f"[{_show(assertion.nested)}]"
    return assertion.name.rpartition("}")[2] + nested + "?" * assertion.ignorable


def as_json(policy: Policy) -> dict[str, Any]:
    """{"alternatives": [[{"name", "nested", "ignorable"}, …], …]}; nested is null or [[…]]."""
    return {"alternatives": [_alternative_as_json(alternative) for alternative in policy.alternatives]}


def _alternative_as_json(alternative: Alternative) -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "nested": None if each.nested is None else [_alternative_as_json(each.nested)],
            "ignorable": each.ignorable,
        }
        for each in alternative
    ]
