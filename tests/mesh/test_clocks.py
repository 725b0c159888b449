"""A node whose clock is wrong when it starts: both sides say why its record is refused, and it is back as soon as it is started
with the right time."""

from tests.hosts import RUN, until

# As if the host's clock were so many seconds ahead.
AHEAD = "import time; right = time.time; time.time = lambda: right() + {}; "
TWO_DAYS = 2 * 86400


def ahead(host, seconds):
    """The words that start its daemon with such a clock."""
    real = type(host).command_line

    def command_line(command, *arguments):
        words = real(host, command, *arguments)
        return [AHEAD.format(seconds) + word if word == RUN else word for word in words]

    host.command_line = command_line


def test_a_node_two_days_ahead_is_told_so_and_is_back_with_the_right_time(mesh):
    (one,) = mesh.start(1)
    two = mesh.host("n2", hints=one.address)
    ahead(two, TWO_DAYS + 10)
    two.start()
    del two.command_line
    refusal = "its version is 2.0 days ahead of our clock"
    until(lambda: f"n1 refuses our record: {refusal}" in two.ctl("status")["warnings"], 20, "it is told")
    assert one.log.count(f"the record of n2: {refusal}") == 1 and one.status_of("n2") == "unknown"
    two.end()
    two.start()
    mesh.wait_known(20)
    until(lambda: two.ctl("status")["warnings"] == [], 20, "and all is well")


def test_a_node_whose_clock_is_a_minute_ahead_says_so_itself_and_nobody_else_does(mesh):
    """Nobody refuses it for that, so without this nobody would know until hits and certificates are judged by it."""
    one, two = mesh.start(2)
    mesh.wait_known()  # of two nodes nobody knows whose clock is off
    three = mesh.host("n3", hints=one.address)
    ahead(three, 60)
    three.start()
    until(lambda: "the clock here is 60 s ahead of the other nodes'" in str(three.ctl("status")["warnings"]), 60, "it says so")
    assert not any("clock" in str(host.ctl("status")["warnings"]) for host in (one, two))
