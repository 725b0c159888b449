"""The phases of WHEREIS over a view and a made-up `ask`: every outcome, and whose turn it is."""

from random import Random

import pytest

from bdserver.core import messages
from bdserver.core.membership import DEAD, LEFT, SUSPECT, Edition, Record, Service
from bdserver.core.routing import DEAD_SECONDS, DEAD_TRIES, ORDERS, PLANS_MAX, Question, Search, ordered
from bdserver.core.view import View
from bdserver.errors import Deadline, NobodyThere, PolicyMismatch, Refused, TooBusy

NOW = 1_700_000_000.0
ECHO = {"Echo": Service("static", 1.0, "", True)}
YES = ["YES", 8080, "axis", "http://there/Echo"]


def record(name, has=True, **fields):
    return Record(name, f"{name}:1", (1, 0), services=ECHO if has else {}, **({"free_dynamic": 1} | fields))


class Mesh:
    """A view of `others`, and what each says to which command."""

    def __init__(self, *others, own=False, says=None, seed=1, policies=None, service=None):
        self.view = View("me")
        self.view.start(Record("me", "me:1", (0, 0), services=ECHO if own else {}, free_dynamic=1), NOW)
        for each in others:
            self.view.merge(each, NOW)
        self.says = says or {}
        self.policies = policies or {}
        self.rng = Random(seed)
        self.asked, self.requests = [], []
        self.clock = 0.0
        self.deadline = 5.0

    def ask(self, name, request, seconds):
        self.asked.append((name, request[0]))
        self.requests.append(request)
        self.clock += 0.01
        said = self.says.get((name, request[0]), self.says.get(name, YES))
        if isinstance(said, Exception):
            self.clock += seconds if isinstance(said, NobodyThere) else 0
            raise said
        return messages.decode(request[0], list(said))

    def meet(self, a, b):
        mine, yours = self.policies.get(a, "*"), self.policies.get(b, "*")
        return "*" in (mine, yours) or bool(set(mine) & set(yours))

    def search(self, client="*"):
        self.policies["client"] = client
        return Search(
            Question(
                self.view,
                suits=lambda r: self.meet("client", r.name),
                talkable=lambda r: self.meet("me", r.name),
                can_talk=self.meet,
                ask=self.ask,
                left=lambda: self.deadline - self.clock,
                clock=lambda: self.clock,
                rng=self.rng,
                order=ordered,
            ),
            "Echo",
        )

    def whereis(self, client="*"):
        found = self.search(client).whereis()
        return found.word, found.node, found.phase


def test_nobody_knows_it():
    mesh = Mesh(record("a", has=False))
    assert mesh.whereis() == ("CANTFIND", "", 0) and not mesh.asked


def test_the_one_holder_that_says_yes():
    assert Mesh(record("a"), record("b", has=False)).whereis() == ("YES", "a", 1)


def test_this_node_itself():
    assert Mesh(own=True).whereis() == ("YES", "me", 1)


@pytest.mark.parametrize("holders", [1, 2, 4])
def test_this_node_takes_its_turn_first_with_probability_one_in_holders_plus_one(holders):
    others = [record(f"n{i}") for i in range(holders)]
    first = sum(Mesh(*others, own=True, seed=seed).whereis()[1] == "me" for seed in range(2000))
    assert first / 2000 == pytest.approx(1 / (holders + 1), abs=0.04)


def test_when_it_is_not_first_it_is_last():
    says = {f"n{i}": ["NO"] for i in range(3)}
    for seed in range(20):
        mesh = Mesh(*[record(f"n{i}") for i in range(3)], own=True, says=says, seed=seed)
        assert mesh.whereis() == ("YES", "me", 1)
        assert mesh.asked[0][0] == "me" or [name for name, _ in mesh.asked][-1] == "me"


def test_all_overloaded_makes_a_replica():
    mesh = Mesh(record("a"), record("b", has=False), says={"a": ["NO"], "me": ["NO"]})
    assert mesh.whereis() == ("YES", "b", 2)
    assert ("b", "WILLYOUREPLICATE") in mesh.asked


def test_this_node_can_be_the_replica():
    mesh = Mesh(record("a"), says={"a": ["NO"]})
    assert mesh.whereis() == ("YES", "me", 2)


def test_no_room_anywhere_is_served_late():
    mesh = Mesh(record("a"), record("b", has=False), says={("a", "WILLYOUEXECUTE"): ["NO"], "b": ["NO"], "me": ["CANTFIND"]})
    assert mesh.whereis() == ("YES", "a", 3)
    assert mesh.asked[-1] == ("a", "YOUWILLEXECUTE")


def test_a_service_known_by_url_alone_is_not_replicated():
    by_url = record("a")._replace(services={"Echo": Service("static", 1.0, "http://x", False)})
    mesh = Mesh(by_url, record("b", has=False), says={("a", "WILLYOUEXECUTE"): ["NO"]})
    assert mesh.whereis() == ("YES", "a", 3)
    assert not [c for _, c in mesh.asked if c == "WILLYOUREPLICATE"]


def test_a_dead_holder_is_passed_over_and_noted():
    mesh = Mesh(record("a", load=0), record("b", load=9), says={"a": NobodyThere("silence")})
    for seed in range(10):
        mesh.rng, mesh.clock = Random(seed), 0.0
        search = mesh.search()
        assert search.whereis().node == "b"
        assert search.gone in ([], ["a"])
    assert ("a", "WILLYOUEXECUTE") in mesh.asked


@pytest.mark.parametrize("status", [DEAD, LEFT])
def test_who_is_known_to_be_gone_is_not_even_asked(status):
    mesh = Mesh(record("a", status=status, since=NOW), record("b"))
    assert mesh.whereis() == ("YES", "b", 1) and mesh.asked == [("b", "WILLYOUEXECUTE")]


def test_who_is_said_to_be_dead_is_asked_when_nobody_else_has_it():
    """One liar can say so of a node that lives."""
    dead = record("a", status=DEAD, since=NOW)
    assert Mesh(dead).whereis() == ("YES", "a", 4)
    assert Mesh(dead, record("b"), policies={"b": "x"}, says={"me": ["NO"]}).whereis("y") == ("YES", "a", 4)
    assert Mesh(dead, policies={"a": "x"}).whereis("y") == ("CANTFIND", "", 0)
    mesh = Mesh(*(dead._replace(name=name) for name in "abcd"), says=dict.fromkeys("abcd", NobodyThere("gone")))
    assert mesh.whereis() == ("CANTFIND", "", 0) and len(mesh.asked) == DEAD_TRIES
    assert mesh.clock < DEAD_TRIES * DEAD_SECONDS + 0.1
    mesh = Mesh(dead)
    mesh.deadline = 0.0
    assert mesh.whereis() == ("CANTFIND", "", 0) and not mesh.asked
    mesh = Mesh(record("a", status=LEFT, since=NOW))
    assert mesh.whereis() == ("CANTFIND", "", 0) and not mesh.asked


def test_suspects_are_asked_last():
    for seed in range(20):
        mesh = Mesh(
            record("a", status=SUSPECT), record("b", load=9), record("c", load=9), says={"b": ["NO"], "c": ["NO"]}, seed=seed
        )
        mesh.whereis()
        assert [name for name, command in mesh.asked if command == "WILLYOUEXECUTE"][-1] == "a"


def test_when_all_holders_are_dead_nothing_is_replicated():
    mesh = Mesh(record("a"), record("b", has=False), says={"a": NobodyThere("gone")})
    assert mesh.whereis() == ("CANTFIND", "", 0)
    assert not [c for _, c in mesh.asked if c == "WILLYOUREPLICATE"]


def test_donthave_goes_on_and_is_noted():
    mesh = Mesh(record("a"), record("b"), says={"a": ["DONTHAVE"]})
    for seed in range(10):
        mesh.rng = Random(seed)
        search = mesh.search()
        assert search.whereis().node == "b"
        assert set(search.mistaken) <= {"a"}


def test_a_busy_holder_is_no_dead_one():
    search = Mesh(record("a"), record("b"), says={"a": TooBusy("full")}).search()
    assert search.whereis().node == "b" and not search.gone


def test_a_client_is_never_named_who_its_policy_excludes():
    policies = {"a": "x", "b": "y"}
    for seed in range(10):
        mesh = Mesh(record("a"), record("b"), policies=dict(policies), seed=seed)
        assert mesh.whereis(client="y") == ("YES", "b", 1)


def offering(name, **service):
    return record(name)._replace(services={"Echo": ECHO["Echo"]._replace(**service)})


@pytest.mark.parametrize("copies", ["any", "meeting"])
def test_a_client_that_no_holder_suits_is_served_by_a_copy_on_a_node_that_suits_it(copies):
    mesh = Mesh(
        offering("a", copies=copies), record("b", has=False), record("c", has=False), policies={"a": "x", "b": "xy", "me": "x"}
    )
    assert mesh.whereis(client="y") in {("YES", "b", 2), ("YES", "c", 2)}
    assert {command for _, command in mesh.asked} == {"WILLYOUREPLICATE"}


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"copies": "none"}, "copies=none"),
        ({"copies": "meeting"}, "copies=meeting"),
        ({"replicable": False}, "registered by its url"),
    ],
)
def test_where_no_copy_may_be_made_the_client_is_told_so_and_why(service, words):
    mesh = Mesh(offering("a", **service), record("b", has=False), policies={"a": "x", "b": "y", "me": "y"})
    found = mesh.search(client="y").whereis()
    assert found.word == "POLICYMISMATCH" and words in found.why and not mesh.asked


def test_where_nobody_has_room_for_a_copy_a_client_that_no_holder_suits_is_told_so():
    mesh = Mesh(record("a"), record("b", has=False), policies={"a": "x"}, says={"b": ["NO"], "me": ["NO"]})
    found = mesh.search(client="y").whereis()
    assert found.word == "POLICYMISMATCH" and "room" in found.why
    assert sorted(mesh.asked) == [("b", "WILLYOUREPLICATE"), ("me", "WILLYOUREPLICATE")]


def test_an_overloaded_service_goes_to_those_alone_that_may_have_it():
    mesh = Mesh(
        offering("a", copies="meeting"), record("b", has=False), says={"a": ["NO"]}, policies={"a": "x", "b": "y", "me": "y"}
    )
    assert mesh.whereis() == ("CANTFIND", "", 0)
    assert "WILLYOUREPLICATE" not in {command for _, command in mesh.asked}


def copy_at(name, counter, **fields):
    copy = {"type": "dynamic", "edition": Edition(counter, str(counter)), "original": "a"}
    return offering(name, **copy)._replace(**fields)


def test_an_old_edition_is_never_asked_while_the_new_one_can_be_had():
    old, new = copy_at("b", 1), offering("a", edition=Edition(2, "2"))
    for seed in range(20):
        assert Mesh(new, old, seed=seed).whereis() == ("YES", "a", 1)
    assert Mesh(new._replace(status=DEAD, since=NOW), old).whereis() == ("YES", "b", 1), "late rather than never"


def test_an_old_edition_is_better_than_none_when_who_has_the_new_one_does_not_answer():
    mesh = Mesh(offering("a", edition=Edition(2, "2")), copy_at("b", 1), says={"a": Refused("gone")})
    assert mesh.whereis() == ("YES", "b", 3) and mesh.requests[-1] == ["YOUWILLEXECUTE", "Echo", True]
    mesh = Mesh(offering("a", edition=Edition(2, "2")), copy_at("b", 1), says={"a": ["DONTHAVE"]})
    assert mesh.whereis() == ("CANTFIND", "", 0), "it answered: nobody has to make do with the old one"


def test_when_the_new_edition_is_overloaded_those_that_have_the_old_one_are_the_first_to_fetch_it():
    busy, old, free = offering("a", edition=Edition(2, "2")), copy_at("b", 1), record("c", has=False, free_dynamic=9)
    for seed in range(20):
        mesh = Mesh(busy, old, free, says={("a", "WILLYOUEXECUTE"): ["NO"], "me": ["NO"]}, seed=seed)
        assert mesh.whereis() == ("YES", "b", 2)


def test_this_node_is_passed_over_for_a_client_that_it_may_not_talk_to():
    mesh = Mesh(record("a"), own=True, policies={"me": "x", "a": "xy"})
    assert mesh.whereis(client="y") == ("YES", "a", 1) and mesh.asked == [("a", "WILLYOUEXECUTE")]


def test_a_draining_holder_gets_calls_only_when_nobody_else_can():
    mesh = Mesh(record("a", draining=True), record("b"))
    assert mesh.whereis() == ("YES", "b", 1)
    mesh = Mesh(record("a", draining=True), says={"me": ["NO"]})
    assert mesh.whereis() == ("YES", "a", 3)


def test_a_holder_behind_a_policy_is_reached_through_a_relay():
    answer = ["YES", "far", 8080, "axis", "http://far/Echo", "far"]
    mesh = Mesh(
        record("far"),
        record("relay", has=False),
        policies={"me": "x", "relay": "xy", "far": "y"},
        says={("relay", "MASSMESSAGE"): answer},
    )
    assert mesh.whereis() == ("YES", "far", 1)
    assert mesh.asked == [("relay", "MASSMESSAGE")]


def test_a_holder_that_only_we_do_not_reach_is_tried_through_others():
    answer = ["YES", "far", 8080, "axis", "http://far/Echo", "far"]
    mesh = Mesh(record("far"), record("b", has=False), says={"far": NobodyThere("no route"), ("b", "MASSMESSAGE"): answer})
    search = mesh.search()
    assert (search.whereis().node, search.gone) == ("far", ["far"])


def test_netfault_is_heeded_the_dead_are_not_asked_again():
    mesh = Mesh(
        record("far"), record("relay", has=False), policies={"me": "x", "relay": "xy", "far": "y"},
        says={("relay", "MASSMESSAGE"): ["NETFAULT", ["far"], "DONTHAVE"]},
    )  # fmt: skip
    assert mesh.whereis() == ("CANTFIND", "", 0)


def test_who_hung_behind_a_dead_node_is_reached_by_another_plan():
    asked = []

    def relay(name, request, seconds):
        asked.append(request[1])
        tree = request[1]
        if "dead" in (tree["self"] + [n for children in tree.values() for n in children]):
            return ["NETFAULT", ["dead"], "DONTHAVE"]
        return ["YES", "far", 8080, "axis", "http://far/Echo", "far"]

    for seed in range(20):
        mesh = Mesh(
            record("far"), record("dead"), record("relay", has=False), seed=seed,
            policies={"me": "x", "relay": "xy", "far": "y", "dead": "y"},
        )  # fmt: skip
        mesh.ask = lambda name, request, seconds: messages.decode(request[0], relay(name, request, seconds))
        assert mesh.whereis() == ("YES", "far", 1)
    assert any("dead" in tree.get("dead", []) or tree.get("dead") for tree in asked)  # it did stand between them


def test_a_relay_that_is_not_there_makes_another_plan():
    answer = ["YES", "far", 8080, "axis", "http://far/Echo", "far"]
    for seed in range(10):
        mesh = Mesh(
            record("far"), record("gone", has=False), record("relay", has=False), seed=seed,
            policies={"me": "x", "gone": "xy", "relay": "xy", "far": "y"},
            says={"gone": NobodyThere("silence"), ("relay", "MASSMESSAGE"): answer},
        )  # fmt: skip
        assert mesh.whereis() == ("YES", "far", 1)


@pytest.mark.parametrize("said", [["NO"], ["NETFAULT", ["elsewhere"], "NO"]])
def test_no_through_a_relay_means_overloaded_too(said):
    mesh = Mesh(
        record("far"), record("relay", has=False), policies={"me": "xy", "relay": "xz", "far": "z"},
        says={"relay": said, ("relay", "WILLYOUREPLICATE"): ["YES", 8080, "axis", "http://relay/Echo"]},
    )  # fmt: skip
    assert mesh.whereis()[::2] == ("YES", 2)


def test_a_plan_is_made_anew_only_so_often():
    relays = [f"r{i}" for i in range(3 * PLANS_MAX)]
    mesh = Mesh(
        record("far"), *[record(name, has=False) for name in relays],
        policies={"me": "x", "far": "y"} | dict.fromkeys(relays, "xy"),
        says=dict.fromkeys(relays, Refused("gone")),
    )  # fmt: skip
    assert mesh.whereis() == ("CANTFIND", "", 0)
    asked = [name for name, command in mesh.asked if command == "MASSMESSAGE"]
    assert len(asked) == len(set(asked)) == 2 * PLANS_MAX  # in two phases


def test_a_relay_cannot_name_who_is_not_known():
    answer = ["YES", "evil", 8080, "axis", "http://evil/", "evil"]
    mesh = Mesh(
        record("far"), record("relay", has=False), policies={"me": "x", "relay": "xy", "far": "y"}, says={"relay": answer}
    )
    assert mesh.whereis()[0] == "CANTFIND"


def test_a_policy_mismatch_met_on_the_way_is_no_death():
    search = Mesh(record("a"), says={"a": PolicyMismatch("no")}).search()
    assert search.whereis().word == "CANTFIND" and not search.gone


def test_hung_holders_leave_time_for_the_others():
    others = [record(f"n{i}") for i in range(5)]
    for seed in range(20):
        mesh = Mesh(*others, says={f"n{i}": NobodyThere("hung") for i in range(4)}, seed=seed)
        assert mesh.whereis() == ("YES", "n4", 1)
        assert mesh.clock < mesh.deadline


def test_a_holder_that_was_only_slow_is_asked_once_more_with_patience():
    mesh = Mesh(record("a"), says={("a", "WILLYOUEXECUTE"): NobodyThere("busy")})
    assert mesh.whereis() == ("YES", "a", 3)
    mesh = Mesh(record("a"), says={("a", "WILLYOUEXECUTE"): Refused("gone")})
    assert mesh.whereis() == ("CANTFIND", "", 0)


# --- holders that do not answer at once ---------------------------------------------------------------------------

NEVER = 1e9


class Hedged(Mesh):
    """Each holder has `slow[name]`: the seconds that reaching it takes, and then those until it answers."""

    def __init__(self, *others, slow=None, **more):
        super().__init__(*others, **more)
        self.slow = slow or {}
        self.heard = 0
        self.due = {}  # name -> (when its answer comes, the answer)

    def put(self, name, request, seconds, patience):
        reached, answered = self.slow.get(name, (0.0, 0.01))
        self.asked.append((name, request[0]))
        if reached > seconds:
            self.clock += seconds
            raise NobodyThere("not reached")
        said = self.says.get((name, request[0]), self.says.get(name, YES))
        answer = messages.decode(request[0], list(said))
        self.due.pop(name, None)
        if reached + answered <= seconds:
            self.clock += reached + answered
            return answer
        self.due[name] = self.clock + reached + answered, answer
        self.clock += seconds
        raise Deadline("it has not answered yet")

    def ask(self, name, request, seconds):
        time = sum(self.slow.get(name, (0.0, 0.0)))
        if time > seconds:
            self.asked.append((name, request[0]))
            self.clock += seconds
            raise NobodyThere("silence")
        self.clock += time
        return super().ask(name, request, seconds)

    def hear(self, seconds):
        self.heard += 1
        if not self.due:
            return None
        name = min(self.due, key=lambda each: self.due[each][0])
        at, answer = self.due[name]
        if at > self.clock + seconds:
            self.clock += seconds
            return None
        self.clock = max(self.clock, at)
        del self.due[name]
        return name, answer

    def search(self, client="*"):
        search = super().search(client)
        search.q = search.q._replace(put=self.put, hear=self.hear)
        return search


def test_who_was_silent_a_moment_ago_comes_last():
    for seed in range(20):
        mesh = Hedged(record("a"), record("b"), slow={"a": (0.0, NEVER)}, seed=seed)
        search = mesh.search()
        search.q = search.q._replace(doubted={"a"})
        assert search.whereis().node == "b" and mesh.asked == [("b", "WILLYOUEXECUTE")]


@pytest.mark.parametrize("hung", [(0.0, NEVER), (NEVER, 0.0)])
def test_a_hung_holder_costs_a_look_up_a_tenth_of_a_second(hung):
    seen = set()
    for seed in range(20):
        mesh = Hedged(record("a"), record("b"), slow={"a": hung}, seed=seed)
        search = mesh.search()
        assert search.whereis().node == "b" and mesh.clock < 0.15
        assert search.gone == (["a"] if ("a", "WILLYOUEXECUTE") in mesh.asked else [])
        seen.add(len(mesh.asked))
    assert seen == {1, 2}


def test_the_first_yes_counts_whoever_was_asked_first():
    for seed in range(20):
        slow = {"a": (0.0, 0.15), "b": (0.0, 0.12), "c": (0.0, 0.5)}
        mesh = Hedged(*map(record, "abc"), slow=slow, seed=seed)
        search = mesh.search()
        found = search.whereis()
        assert found.word == "YES" and found.node != "c" and mesh.clock < 0.35
        assert [each.node for each in search.asked if each.answer == "YES"] == [found.node]
        assert found.node not in search.gone and set(search.gone) <= set("abc")
        assert all(0.1 < each.seconds < 0.3 for each in search.asked if each.answer == "YES")


def test_a_late_no_makes_a_copy_and_a_late_donthave_an_old_view():
    mesh = Hedged(record("a"), record("b", has=False), says={"a": ["NO"], "me": ["NO"]}, slow={"a": (0.0, 0.3)})
    assert mesh.whereis() == ("YES", "b", 2)
    mesh = Hedged(record("a"), says={"a": ["DONTHAVE"]}, slow={"a": (0.0, 0.3)})
    search = mesh.search()
    assert search.whereis().word == "CANTFIND" and search.mistaken == ["a"] and search.gone == []


def test_the_only_holder_has_its_whole_patience():
    for slow in ((0.0, 0.7), (0.5, 0.1)):
        mesh = Hedged(record("a"), slow={"a": slow})
        search = mesh.search()
        assert (search.whereis().node, search.q.left() > 3) == ("a", True)
        assert mesh.due == {}


@pytest.mark.parametrize(("seconds", "found"), [(30.0, "a"), (10.0, "")])
def test_whose_caller_has_patience_the_only_holder_may_be_very_late(seconds, found):
    mesh = Hedged(record("a"), slow={"a": (2.0, 10.0)})
    mesh.deadline = seconds
    assert mesh.search().whereis().node == found and mesh.clock < seconds


def test_who_answers_nobody_is_told_to_serve_late_and_then_nobody_has_it():
    mesh = Hedged(record("a"), record("b"), slow={"a": (0.0, NEVER), "b": (NEVER, 0.0)})
    search = mesh.search()
    assert search.whereis().word == "CANTFIND" and mesh.clock < mesh.deadline
    assert {"a", "b"} <= set(search.gone) and ("a", "YOUWILLEXECUTE") in mesh.asked


def test_whoever_breaks_off_while_it_is_waited_for_is_waited_for_no_longer():
    mesh = Hedged(*map(record, "ab"), slow={"a": (0.0, NEVER), "b": (0.0, NEVER)})
    search = mesh.search()
    search.q = search.q._replace(hear=lambda seconds: setattr(mesh, "heard", mesh.heard + 1))
    assert search.whereis().word == "CANTFIND" and mesh.heard < 10


def test_the_last_one_too_has_its_patience_when_it_could_not_even_be_asked_at_first():
    for seed in range(20):
        mesh = Hedged(*map(record, "ab"), slow={"a": (0.0, NEVER), "b": (0.3, 0.01)}, seed=seed)
        assert mesh.whereis() == ("YES", "b", 1)


def test_a_yes_that_comes_only_while_others_are_told_to_serve_late_counts():
    mesh = Hedged(
        record("a"), record("b"), slow={"a": (0.0, 1.5), "b": (0.0, 0.01)}, says={("b", "WILLYOUEXECUTE"): ["DONTHAVE"]}
    )
    mesh.says["b"] = ["DONTHAVE"]
    search = mesh.search()
    assert search.whereis().node == "a" and "a" not in search.gone


def test_whatever_holders_do_a_yes_that_is_there_is_found_in_time():
    for seed in range(500):
        rng = Random(seed)
        names = [f"n{i}" for i in range(rng.randint(1, 6))]
        speed = [(0.0, 0.01), (0.0, 0.3), (0.3, 0.0), (0.0, NEVER), (NEVER, 0.0)]
        slow = {name: rng.choice(speed) for name in names}
        says = {name: rng.choice([YES, ["NO"], ["DONTHAVE"]]) for name in names}
        mesh = Hedged(*map(record, names), slow=slow, says={**says, "me": ["CANTFIND"]}, seed=seed)
        search = mesh.search()
        found = search.whereis()
        quick = [name for name in names if slow[name] == (0.0, 0.01) and says[name] == YES]
        hung = [name for name in names if slow[name] != (0.0, 0.01)]
        if quick:
            assert found.word == "YES" and found.phase == 1, seed
            assert mesh.clock <= 0.1 * len(hung) + 0.01 * len(names) + 0.2, seed
        if found.word == "YES" and found.phase == 1:
            assert says[found.node] == YES and found.node not in mesh.due, seed
        assert mesh.clock <= mesh.deadline and set(mesh.due) <= set(search.gone) and mesh.heard < 30, seed


def test_no_time_left_is_said():
    mesh = Mesh(record("a"))
    mesh.deadline = 0.0
    with pytest.raises(Deadline):
        mesh.whereis()


def test_odd_answers_are_no_yes():
    for said in ([], ["YES"], ["YES", 1], ["MAYBE"], [None], [["YES"]]):
        assert Mesh(record("a"), says={"a": said}).whereis()[0] == "CANTFIND", said


def test_of_two_the_less_loaded_comes_first_mostly_and_nobody_is_always_first():
    candidates = [record(f"n{i}", load=i) for i in range(4)]
    firsts = [ordered(candidates, Random(seed))[0].name for seed in range(1000)]
    shares = [firsts.count(f"n{i}") for i in range(4)]
    assert shares == sorted(shares, reverse=True) and 300 < shares[0] < 600 and shares[2] > 50


def test_the_original_order_is_always_the_same_and_suspects_come_last():
    candidates = [record("b", load=3), record("a", load=10), record("0", status=SUSPECT)]
    assert {tuple(r.name for r in ORDERS["original"](candidates, Random(seed))) for seed in range(20)} == {("a", "b", "0")}


def test_a_random_order_does_not_look_at_the_load():
    candidates = [record("idle"), record("busy", load=10), record("doubted", status=SUSPECT)]
    firsts = [ORDERS["random"](candidates, Random(seed)) for seed in range(1000)]
    assert all(turn[-1].name == "doubted" and len(turn) == 3 for turn in firsts)
    assert 400 < sum(turn[0].name == "busy" for turn in firsts) < 600
    assert not any(ORDERS["measured"](candidates, Random(seed))[0].name == "doubted" for seed in range(100))
