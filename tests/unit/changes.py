"""A services folder, and its changes as a person or a node makes them, in one line each."""

import os
import stat

import pytest

from bdserver.core.membership import STATIC
from bdserver.files import durable
from bdserver.files.bdcert import SUFFIX, Service, read_service
from bdserver.files.services import Services

# A test file has these under their names: `folder, services = changes.folder, changes.services`.


@pytest.fixture
def folder(tmp_path):
    """The services directory itself, to drop files into."""
    path = tmp_path / "services"
    path.mkdir()
    return path


@pytest.fixture
def services(tmp_path, folder):
    return Services(str(folder), str(tmp_path / "graveyard"), str(tmp_path / "graveyard" / ".incoming"))


@pytest.fixture
def soon():
    """What the test writes comes one right after the other, before the first has rested: however long this machine takes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(durable, "REST_NS", 3_600_000_000_000)
        yield


def drop(folder, name, cert="weight=1\ntype=static\n", content="#!/bin/sh\n"):
    """As a person would: the service first, the .bdcert last."""
    if content is not None:
        (folder / name).write_text(content)
    if cert is not None:
        (folder / f"{name}.bdcert").write_text(cert)


def scratch(services, name, content="new", cert="weight=2\ntype=static\n"):
    """An unpacked package; the path of its folder."""
    path = os.path.join(services.scratch_dir, f"{name}.xyz")
    os.makedirs(path)
    for each, text in ((name, content), (f"{name}.bdcert", cert)):
        with open(os.path.join(path, each), "w") as file:
            file.write(text)
    return path


def left_in_scratch(services):
    return sorted(set(os.listdir(services.scratch_dir)) - {".lock"})


def publish(services, source, name, cost, url="", health="none"):
    """What an administrator brings: `source` is a file or folder, or None for what has just a url."""
    is_packed = source is not None and os.path.lexists(source + SUFFIX) and not _is_pipe(source)
    extra = read_service(os.path.dirname(source), name).extra if is_packed else ()
    services.publish(Service(name, STATIC, cost, url, health, source, 0.0, extra))


def install(services, folder, name, now):
    """What came in a package, and was unpacked to a folder."""
    services.install(folder, services.unpacked(folder, name), now)


def _is_pipe(path):
    return stat.S_ISFIFO(os.lstat(path).st_mode)
