"""The OpenAPI document of the HTTP API, made from what its table of routes (`http.ROUTES`) says of each.

It promises what the shapes of `core.shapes` and `core.holding` do: more fields may come. Who answers is the business of `http`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bdserver import __version__
from bdserver.core.fields import TEXT_MAX
from bdserver.core.tuples import NamedTuple

Schema = dict[str, Any]
STRING, NUMBER, INTEGER, FLAG = ({"type": kind} for kind in ("string", "number", "integer", "boolean"))
NAME = {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _or_none(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_TYPE = {"type": "string", "enum": ["static", "dynamic"]}
SCHEMAS: dict[str, Schema] = {
    "Whereis": _object(
        {
            "url": STRING,
            "node": STRING,
            "service": NAME,
            "phase": {"type": "integer", "minimum": 1, "maximum": 4},
            "asked": _list(_object({"node": STRING, "answer": STRING, "ms": NUMBER})),
        },
        policy=STRING,
    ),
    "Policy": _object({"digest": STRING}),
    "Services": _map(_list(_object({"node": STRING, "type": _TYPE, "url": STRING}))),
    "Nodes": _list(
        _object(
            {
                "address": STRING,
                "name": _or_none(STRING),
                "status": {"type": "string", "enum": ["alive", "suspect", "dead", "left", "unvisited"]},
                "version": {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2},
                "services": _list(NAME),
                "free_dynamic": INTEGER,
                "talkable": FLAG,
                "draining": FLAG,
                "heard_at": NUMBER,
            }
        )
    ),
    "Status": _object(
        {
            "address": STRING,
            "name": STRING,
            "mesh": STRING,
            "version": {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2},
            "nodes": INTEGER,
            "weight": NUMBER,
            "receiver_threshold": NUMBER,
            "overloaded": FLAG,
            "draining": FLAG,
            "free_dynamic": INTEGER,
            "uptime": NUMBER,
            "certificate_days_left": NUMBER,
            "policy": _or_none(STRING),
            "services": _map(_object({"type": _TYPE, "weight": NUMBER, "cost": NUMBER, "healthy": FLAG, "url": STRING})),
        }
    ),
    "Document": {"type": "object"},
    "Error": _object({"code": STRING, "message": STRING}),
}
KINDS = {"/v1/watch": "text/event-stream", "/metrics": "text/plain"}
ERRORS = {
    "400": "the request is wrong; the message says how",
    "403": "no holder's policy meets the client's; or another site's page asks",
    "404": "nobody in the mesh has it",
    "409": "no policy of that digest is known here: POST it to /v1/policies",
    "413": "the policy is too large",
    "421": "the request is for a host of another name",
    "502": "the node's answer is of no use",
    "503": "the node does not answer, or has no room; Retry-After says when to come back",
    "504": "no answer in time",
}
_SERVICE = {"name": "service", "in": "path", "required": True, "schema": NAME}
_POLICY = {
    "name": "policy",
    "in": "query",
    "required": False,
    "description": "the digest of the client's WS-Policy, as POST /v1/policies answered it",
    "schema": STRING,
}
_DOCUMENT = {
    "required": True,
    "content": {"application/xml": {"schema": {"type": "string", "maxLength": TEXT_MAX}}},
}


class Operation(NamedTuple):
    """What the document tells of a route: its path, with a / at its end for all below it; the methods that it takes; its
    answer's schema, "" for a text; and what it is for."""

    path: str
    methods: tuple[str, ...]
    answer: str
    summary: str


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for each in operations:
        is_below = each.path.endswith("/")
        path = each.path + "{service}" if is_below else each.path
        for method in each.methods:
            paths.setdefault(path, {})[method.lower()] = _told(each, method, is_below)
    return {
        "openapi": "3.1.0",
        "info": {"title": "BDserver", "version": __version__, "description": "The mesh, as the node of this host knows it."},
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _told(each: Operation, method: str, is_below: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": each.summary, "responses": _responses(each, method)}
    if is_below:
        operation["parameters"] = [_SERVICE, _POLICY]
    if method == "POST" and each.path.startswith("/v1/"):
        operation["requestBody"] = _DOCUMENT
    return operation


def _responses(each: Operation, method: str) -> dict[str, Any]:
    failed = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses = {code: _response(words, {} if method == "HEAD" else failed) for code, words in ERRORS.items()}
    if each.path == "/":
        location = {"Location": {"required": True, "schema": STRING}}
        return {"307": _response("go there", {"text/plain": {"schema": STRING}}) | {"headers": location}} | responses
    kind = KINDS.get(each.path, "application/json")
    schema = {"$ref": f"#/components/schemas/{each.answer}"} if each.answer else STRING
    told = {} if method == "HEAD" else {kind: {"schema": schema}}
    if each.methods == ("POST",):
        return {"201": _response("it is kept", told)} | responses
    return {"200": _response(each.summary, told), "304": _response("the client has this answer already", {})} | responses


def _response(words: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": words, **({"content": content} if content else {})}
