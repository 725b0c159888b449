"""Which queries are one call."""

from bdserver.gateway.calls import SECONDS, Calls

A, AAAA, SRV = frozenset({"A"}), frozenset({"AAAA"}), frozenset({"SRV"})
WHOSE = "127.0.0.1", "Echo"


def begun(calls, types, packet, now, whose=WHOSE):
    assert calls.joined(whose, types, packet, now) is None
    return calls.begin(whose, types, packet, f"call {packet}")


def test_address_and_port_of_one_client_are_one_call_while_it_is_under_way_and_for_a_second():
    calls = Calls()
    call = begun(calls, A, 1, 0.0)
    assert calls.joined(WHOSE, AAAA, 2, 9.0) is call, "under way"
    calls.end(WHOSE, call, 10.0)
    assert calls.joined(WHOSE, SRV, 3, 10.0 + SECONDS) is call


def test_the_same_question_again_is_the_next_call_and_the_same_packet_is_not():
    calls = Calls()
    first = begun(calls, A, 1, 0.0)
    second = begun(calls, A, 2, 0.1)
    assert calls.joined(WHOSE, A, 1, 0.2) is first and calls.joined(WHOSE, A, 2, 0.2) is second
    assert calls.joined(WHOSE, AAAA, 3, 0.3) is first and calls.joined(WHOSE, AAAA, 4, 0.3) is second, (
        "the oldest that lacks it"
    )
    assert calls.joined(WHOSE, AAAA, 5, 0.3) is None


def test_others_and_other_services_are_other_calls():
    calls = Calls()
    begun(calls, A, 1, 0.0)
    begun(calls, AAAA, 1, 0.0, ("127.0.0.2", "Echo"))
    begun(calls, AAAA, 1, 0.0, ("127.0.0.1", "Other"))


def test_nothing_is_kept_longer_than_a_second():
    calls = Calls()
    for number in range(100):
        calls.end(WHOSE, begun(calls, A, number, 0.0), 0.0)
    assert len(calls) == 100
    assert calls.joined(WHOSE, AAAA, 1, SECONDS + 0.1) is None and len(calls) == 0


def test_a_late_packet_of_a_call_that_ended_is_a_new_one():
    calls = Calls()
    old, new = begun(calls, A, 1, 0.0), begun(calls, A, 2, 0.0)
    calls.end(WHOSE, new, 5.0)
    calls.end(WHOSE, old, 0.0)  # the order in which they end is not that of their beginning
    assert calls.joined(WHOSE, A, 1, 5.5) is None and calls.joined(WHOSE, A, 2, 5.5) is new
