"""SYNCHRONIZE from its beginning to its end, for tests and measurements that have both views, or a conversation, at hand."""

import contextlib

from bdserver.core import exchange


def synchronise(read, take, turn):
    """A conversation as its caller has it (`exchange.turns`): `turn` sends an exchange and returns the (checked) answer."""
    conversation = exchange.turns(read, take)
    say = next(conversation)
    with contextlib.suppress(StopIteration):
        while True:
            say = conversation.send(turn(say))
