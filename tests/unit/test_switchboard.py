"""The discoverer's conversations: real TLS on loopback, several nodes turning in one process."""

import pytest

from bdserver.core.membership import ALIVE, DEAD
from bdserver.processes.describing import Told, describe
from tests.unit.gossipers import Gossiper, make_authority, turn_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def mesh(tmp_path, authority):
    made = []

    def make(count):
        made.extend(Gossiper(str(tmp_path), authority, f"n{number}") for number in range(count))
        for each in made[1:]:
            each.meet(made[0])
        return made

    yield make
    for each in made:
        each.end()


def knows(gossiper, names, status=ALIVE):
    records = gossiper.view.records
    return all(name in records and records[name].status == status for name in names)


def test_nodes_that_know_one_another_from_one_alone_all_know_all_and_each_hears_of_a_change(mesh):
    gossipers = mesh(5)
    names = [each.node.name for each in gossipers]
    turn_until(gossipers, lambda: all(knows(each, names) for each in gossipers), what="all know all")
    with gossipers[3].node.cache.locked() as view:
        describe(gossipers[3].node, view, 0.0, Told(draining=True))
    turn_until(gossipers, lambda: all(each.view.records["n3"].draining for each in gossipers), what="all hear of it")


def test_a_node_whose_sockets_are_closed_is_soon_dead_for_all(mesh):
    gossipers = mesh(4)
    names = [each.node.name for each in gossipers]
    turn_until(gossipers, lambda: all(knows(each, names) for each in gossipers), what="all know all")
    gone = gossipers.pop()
    gone.end()
    turn_until(gossipers, lambda: all(knows(each, ["n3"], DEAD) for each in gossipers), what="n3 is dead")
