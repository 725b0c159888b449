"""A node with canned answers, for tests of commands: a table of them, over conversations that need no daemon.

What is asked is checked as a node checks it, and what is answered takes the way of the wire, so a command can't be tested
against shapes that no node would send or take.
"""

import json

from bdserver import api
from bdserver.core import messages
from bdserver.core.messages import Status
from bdserver.core.roles import ADMIN
from bdserver.net import dialling

OFFER = {"type": "static", "weight": 1.5, "cost": 1.0, "healthy": True, "url": "http://10.0.0.1:8080/axis/Echo?wsdl"}


def own(name="alpha", **changes):
    """How a healthy node is, as STATUS tells it."""
    return {
        "address": "10.0.0.1:9001", "name": name, "mesh": "home", "version": [5, 1], "software": "1.0.0", "nodes": 2,
        "weight": 1.5, "receiver_threshold": 100.0, "overloaded": False, "draining": False, "free_dynamic": 5,
        "uptime": 7300.0, "certificate_days_left": 300.2, "policy": None, "complaints": [], "warnings": [],
        "services": {"Echo": OFFER},
    } | changes  # fmt: skip


def seen(name, number=1, services=("Echo",), **changes):
    """A node as another one sees it."""
    host = f"10.0.0.{number}"
    return {
        "address": f"{host}:9001", "name": name, "status": "alive", "version": [5, 1], "services": list(services),
        "types": dict.fromkeys(services, "static"),
        "urls": {each: f"http://{host}:8080/axis/{each}?wsdl" for each in services},
        "costs": dict.fromkeys(services, 1.0), "free_dynamic": 5, "talkable": True, "draining": False, "heard_at": 0.0,
        "load": 3, "receiver_threshold": 100.0,
    } | changes  # fmt: skip


def unvisited(address):
    """A hint at which nobody has answered yet."""
    return seen(None, services=(), address=address, status="unvisited", version=[0, 0])


class Node:
    """A node that answers each command from a table: with a value, with each of a list in turn, by a function of the request's
    arguments, or by raising an error."""

    def __init__(self, **answers):
        self.answers = {"STATUS": Status(own(), [seen("alpha")])} | answers
        self.asked = []
        self.packages = []

    def dial(self, deadline=None):
        """A conversation with it."""
        return _Talk(self)

    def requests(self, but=("STATUS",)):
        """What it was asked, without what only looks."""
        return [each for each in self.asked if each[0] not in but]


class _Talk:
    def __init__(self, node):
        self.node = node

    def ask(self, request, deadline, package=None):
        messages.check(request, ADMIN)
        self.node.asked.append(request)
        if package is not None:
            self.node.packages.append(package.read())
        answer = self.node.answers[request[0]]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(*request[1:])
        if isinstance(answer, Exception):
            raise answer
        return messages.decode(request[0], json.loads(json.dumps(messages.encoded(answer))), request[1:])

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def let_in(monkeypatch, *nodes):
    """From now on commands find these nodes, in turn, whatever options say where."""
    monkeypatch.setattr(api, "entrances", lambda *options: [node.dial for node in nodes])


def outcome(main, arguments, capsys):
    """(exit status, stdout, stderr) of a command that is run here."""
    try:
        status = main(list(arguments))
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    return status, said.out, said.err


def let_dial(monkeypatch, nodes):
    """From now on a call over TLS reaches these: address -> node; every certificate is good."""
    monkeypatch.setattr(api, "credentials_of", lambda *options: "credentials")
    monkeypatch.setattr(dialling, "dial", lambda address, *rest, **more: nodes[address].dial())
