"""A node that brings code: with a node's certificate alone nothing gets live on another host, where publishers are listed.

`evil` is a real node with keys of its own, whose daemon does not look at its files, so what it says of them is what stands in a
.bdcert that it has written by hand. It lists no publishers itself. `MARK` stands in each file of its making.
"""

import os
import time

import pytest

from bdserver.core import plan
from bdserver.core.messages import NotGiven, Yes
from bdserver.errors import BDError, Forbidden
from bdserver.files import package, publishers
from bdserver.files.bdcert import read_service
from bdserver.files.minisign import RANDOM_BYTES, SecretKey
from bdserver.files.publishers import Signed, signed
from bdserver.net import dialling, keys
from tests.hosts import RUN, Mesh, until

MARK = "#!/bin/sh\necho EVIL\n"
UNTENDED = "from bdserver.processes import copying; copying.Copying._look_at_files = lambda *given: None; from importlib"
NOW = int(time.time())


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """n1 has Echo, signed; n2 has room; evil has a node's certificate."""
    with Mesh(str(tmp_path_factory.mktemp("forgers"))) as mesh:
        key = SecretKey.of_random(os.urandom(RANDOM_BYTES))
        mesh.publisher, mesh.key_path, mesh.list = key, f"{mesh.folder}/p.key", f"{mesh.folder}/publishers"
        for path, data in ((mesh.key_path, key.file), (mesh.list, f"{key.public.line} # us\n".encode())):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(data)
        mesh.start(2, publishers=mesh.list, require_signed="yes", receiver_threshold=1e9)
        evil = mesh.host("evil", hints=mesh.hosts[0].address, receiver_threshold=1e9)
        words = evil.command_line
        evil.command_line = lambda *given: [RUN.replace("from importlib", UNTENDED) if w == RUN else w for w in words(*given)]
        evil.start()
        mesh.wait_known()
        yield mesh


@pytest.fixture
def hosts(mesh):
    return mesh.hosts


@pytest.fixture(autouse=True)
def nothing_of_evils_is_live(mesh):
    yield
    for host in mesh.hosts[:2]:
        for folder, _, names in os.walk(host.services):
            for name in names:
                with open(os.path.join(folder, name)) as file:
                    assert "EVIL" not in file.read(), f"{name} is live on {host.name}"
        assert not [line for line in host.log.splitlines() if "Traceback" in line or "a bug" in line], host.name


def write(mesh, name, text):
    path = os.path.join(mesh.folder, name)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o755)
    return path


def publish(mesh, host, name, text, *options):
    done = host.run("bdctl", "publish", write(mesh, name, text), "--sign", mesh.key_path, *options)
    assert done.returncode == 0, done.stderr


def bring(evil, name, text=MARK, counter=NOW, signature="", **bdcert):
    """Evil offers it, with an edition that fits its own package; `signature`: a text, or what makes one of its SHA-256."""
    evil.add_service(name, text, **bdcert)
    sha256 = package.sha256_of(read_service(evil.services, name))
    text_of_signature = signature if isinstance(signature, str) else signature(sha256).text
    edition = {"edition": f"{counter}:{sha256[:32]}", "signature": text_of_signature, "signer": "0123456789ABCDEF"}
    evil.add_service(name, text, **bdcert, **edition)


def told(host, name, giver="evil"):
    """The host knows that this node has it, as a service that can be copied."""
    until(lambda: giver in [each["node"] for each in host.ctl("services").get(name, [])], 20, f"{host.name} knows of {name}")


def asked(mesh, host, *request):
    """What a host answers to evil."""
    deadline = time.monotonic() + 20
    with dialling.dial(host.address, keys.load(mesh.hosts[2].folder, "evil"), deadline) as talk:
        return talk.ask(list(request), deadline)


def forced(mesh, host, name):
    """What the host says when it is to take a copy, asked in each way that there is."""
    relayed = ["MASSMESSAGE", {plan.SELF: [host.name]}, [host.name], ["WILLYOUREPLICATE", name]]
    said = []
    for where, request in ((host, ["WILLYOUREPLICATE", name, False]), (mesh.hosts[0], relayed)):
        try:
            said.append(asked(mesh, where, *request))
        except BDError as error:
            said.append(error)
    return said


def has(host, name):
    return os.path.exists(os.path.join(host.services, name))


def test_what_is_signed_is_copied_so_the_rest_fails_for_what_it_is(mesh, hosts):
    publish(mesh, hosts[0], "Good", "#!/bin/sh\necho good\n")
    told(hosts[1], "Good", "n1")
    assert isinstance(asked(mesh, hosts[1], "WILLYOUREPLICATE", "Good", False), Yes) and has(hosts[1], "Good")
    [holder] = [each for each in hosts[1].ctl("services")["Good"] if each["node"] == "n2"]
    assert holder["signer"] == mesh.publisher.public.name


STRANGER = SecretKey.of_random(bytes(RANDOM_BYTES))
FORGED = {
    "unsigned": lambda mesh, name: "",
    "garbage": lambda mesh, name: "7 x",
    "by a key of its own": lambda mesh, name: lambda sha256: signed(STRANGER, name, NOW, sha256),
    "by a key with the publisher's id": lambda mesh, name: (
        lambda sha256: signed(STRANGER._replace(id=mesh.publisher.id), name, NOW, sha256)
    ),
    "that of another service": lambda mesh, name: signed(mesh.publisher, "Good", NOW, "0" * 64).text,
    "that of another service, for its own package": lambda mesh, name: (
        lambda sha256: signed(mesh.publisher, "Good", NOW, "0" * 64)._replace(sha256=sha256)
    ),
}


@pytest.mark.parametrize("how", FORGED)
def test_what_no_publisher_signed_gets_nowhere(mesh, hosts, how):
    name = "Trojan" + how.title().replace(" ", "").replace(",", "").replace("'", "")
    bring(hosts[2], name, signature=FORGED[how](mesh, name), replicas=3)  # and the mesh is asked to keep three of it
    for host in hosts[:2]:
        told(host, name)
    for said in forced(mesh, hosts[1], name):
        assert not isinstance(said, Yes) and getattr(said, "word", "") != "YES", said
    assert not has(hosts[0], name) and not has(hosts[1], name)
    until(lambda: "is not taken" in hosts[1].log, 20, "it is said")
    assert [event for event in hosts[1].ask(["STATUS"])[1]["events"] if (event["what"], event["service"]) == ("refused", name)]


def test_the_package_of_a_signed_service_with_other_files_in_it(mesh, hosts):
    """A copy of Login, as far as it says, of the edition and with the signature that are Login's: its files are evil's."""
    publish(mesh, hosts[0], "Login", "#!/bin/sh\necho login\n")
    real = read_service(hosts[0].services, "Login")
    hosts[2].add_service(
        "Login", MARK, type="dynamic", original="n1", edition=f"{real.edition.counter}:{real.edition.digest}",
        signer=real.signer, signature=real.signature,
    )  # fmt: skip
    told(hosts[1], "Login")
    for _ in range(5):  # whom it asks first is drawn
        assert isinstance(asked(mesh, hosts[1], "WILLYOUREPLICATE", "Login", False), Yes | NotGiven)
        if has(hosts[1], "Login"):
            with open(os.path.join(hosts[1].services, "Login")) as file:
                assert file.read() == "#!/bin/sh\necho login\n"


def test_an_old_package_that_was_signed_once(mesh, hosts):
    """n2 has had v2; evil has kept v1 and its signature, and says that it is the original, in an edition of today."""
    one, two, evil = hosts
    publish(mesh, one, "Old", "#!/bin/sh\necho v1 is EVIL\n")
    old = read_service(one.services, "Old")
    time.sleep(max(0.0, old.edition.counter + 1 - time.time()))  # a counter is a second
    publish(mesh, one, "Old", "#!/bin/sh\necho v2\n")
    told(two, "Old", "n1")
    assert isinstance(asked(mesh, two, "WILLYOUREPLICATE", "Old", False), Yes)
    assert two.run("bdctl", "withdraw", "--here", "Old").returncode == 0
    assert one.run("bdctl", "withdraw", "Old").returncode == 0
    bring(evil, "Old", "#!/bin/sh\necho v1 is EVIL\n", counter=int(time.time()) + 60, signature=old.signature)
    told(two, "Old")
    for said in forced(mesh, two, "Old"):
        assert not isinstance(said, Yes)
    assert not has(two, "Old")
    until(lambda: "no older one comes back" in two.log, 20, "it is said why")


def test_an_heir_of_a_service_brings_nothing_to_its_copies(mesh, hosts):
    """n1 has left; evil says that it has taken over what n2 has a copy of, in a newer edition."""
    one, two, evil = hosts
    publish(mesh, one, "Heir", "#!/bin/sh\necho heir\n")
    told(two, "Heir", "n1")
    assert isinstance(asked(mesh, two, "WILLYOUREPLICATE", "Heir", False), Yes)
    signature = read_service(two.services, "Heir").signature
    one.end()
    until(lambda: two.status_of("n1") != "alive", 20, "n1 is gone")
    bring(evil, "Heir", counter=int(time.time()) + 60, signature=signature, after="n1")
    told(two, "Heir")
    until(lambda: "Heir from evil is not taken" in two.log, 20, "n2 has tried to renew its copy, and has not taken that")
    with open(os.path.join(two.services, "Heir")) as file:
        assert file.read() == "#!/bin/sh\necho heir\n"
    one.start()
    mesh.wait_known()


@pytest.mark.parametrize(
    "request_",
    [
        ["SIGN", "Good", Signed(1, "0" * 64, signed(STRANGER, "Good", 1, "0" * 64).signature).text],
        ["STATEMENT", "Good"],
        ["PUBLISH", "Trojan", {"bytes": 0, "sha256": "", "url": "http://evil/"}],
        ["TEND", ["Good"]],
        ["PLACE", "Trojan", "n2"],
        ["ADOPT", "Good"],
    ],
    ids=lambda request: request[0],
)
def test_what_only_an_administrator_may(mesh, hosts, request_):
    with pytest.raises(Forbidden):
        asked(mesh, hosts[1], *request_)


def test_without_a_list_all_of_it_would_be_live(mesh, hosts):
    """Else nothing above proves anything: the same request, once nobody is asked for."""
    evil, two = hosts[2], hosts[1]
    bring(evil, "Trojan", "#!/bin/sh\necho a trojan horse\n")
    told(two, "Trojan")
    assert not any(isinstance(said, Yes) for said in forced(mesh, two, "Trojan"))
    two.write_config(publishers="", require_signed="no")
    os.kill(two.process.pid, 1)
    until(lambda: two.ask(["STATUS"])[1]["settings"]["require_signed"] == "no", 20, "the config is read")
    assert isinstance(asked(mesh, two, "WILLYOUREPLICATE", "Trojan", False), Yes) and has(two, "Trojan")
    two.write_config(publishers=mesh.list, require_signed="yes")
    os.kill(two.process.pid, 1)
    until(
        lambda: "Trojan" not in next(n for n in two.ctl("nodes") if n["name"] == "n2")["services"], 20, "it is offered no more"
    )
    assert any("copies here are not offered" in line for line in two.ask(["STATUS"])[1]["warnings"])
    assert publishers.read(mesh.list).keys.keys() == {mesh.publisher.public.name}
