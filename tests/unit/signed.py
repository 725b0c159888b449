"""Services that are signed, for the tests of what becomes of them: a publisher, a list of publishers, packages."""

import io

from bdserver.core.roles import ADMIN
from bdserver.files import package
from bdserver.files.bdcert import Service
from bdserver.files.minisign import RANDOM_BYTES, SecretKey
from bdserver.files.publishers import signed
from tests.unit.nodes import NOW, a_node, acquaint

KEY, STRANGER = SecretKey.of_random(bytes(range(RANDOM_BYTES))), SecretKey.of_random(bytes(RANDOM_BYTES))
SIGNER = KEY.public.name


def a_list(tmp_path, *keys):
    """A file that lists these keys."""
    path = tmp_path / "publishers"
    path.write_text("".join(f"{key.public.line} # one of us\n" for key in keys or (KEY,)))
    return str(path)


def a_signing_mesh(tmp_path, *names, **settings):
    """Nodes that know each other, where KEY's signatures count."""
    nodes = [a_node(tmp_path, name, publishers=a_list(tmp_path), **settings) for name in names]
    acquaint(*nodes)
    return nodes


def packed(tmp_path, name="Echo", content=b"v1", **bdcert):
    """(its SHA-256, its length, the package) of a file."""
    (tmp_path / name).write_bytes(content)
    out = io.BytesIO()
    length, sha256 = package.pack(Service(name, "static", 1.0, "", "tcp", str(tmp_path / name), 0.0, **bdcert), out)
    out.seek(0)
    return sha256, length, out


def publish(tmp_path, node, content=b"v1", key=KEY, name="Echo", counter=None, signs=None, **wish):
    """PUBLISH, signed by a key; `signs`: the name that is signed; `counter`: as the node wishes, unless told."""
    sha256, length, file = packed(tmp_path, name, content)
    described = {"bytes": length, "sha256": sha256, "health": "tcp", **wish}
    if key is not None:
        counter = counter or node.ask("STATEMENT", name, role=ADMIN).counter
        described["signature"] = signed(key, signs or name, counter, sha256).text
    return node.ask("PUBLISH", name, described, role=ADMIN, package=file)


def sign(node, key=KEY, name="Echo", counter=None):
    """SIGN what is here."""
    said = node.ask("STATEMENT", name, role=ADMIN)
    return node.ask("SIGN", name, signed(key, name, counter or said.counter, said.sha256).text, role=ADMIN)


def later(*nodes, seconds=100):
    """Time passes."""
    for node in nodes:
        node.clock.now += seconds


__all__ = ["KEY", "NOW", "SIGNER", "STRANGER", "a_list", "a_signing_mesh", "later", "packed", "publish", "sign"]
