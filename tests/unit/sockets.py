"""What tests of connections say of deadlines and addresses; `listening` is a fixture of conftest."""

import time


def soon(seconds=10.0):
    """A deadline: far for what works, and near enough for what hangs."""
    return time.monotonic() + seconds


def address_of(sock):
    """HOST:PORT of a listening socket."""
    return "{}:{}".format(*sock.getsockname()[:2])
