"""The demo's story, told on a stage in memory: what it says in which order, and what it does when something does not happen."""

import itertools
import os
import shutil
from types import SimpleNamespace

import pytest

from bdserver.core.membership import ALIVE
from bdserver.core.weight import FRESH, HIT, HORIZON, weight
from bdserver.demo import hosts, story
from bdserver.demo.stage import NAMES, THRESHOLD
from bdserver.demo.story import CALM_SHARE, GENTLE_PAUSE, NUMBER, SAMPLES, Story
from bdserver.errors import NobodyThere
from bdserver.files import bdcert
from bdserver.net.container import Container
from tests.unit.stages import Clock, Names, Stage, Web, served


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (story, hosts):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def web():
    with served(Web()) as web:
        yield web


@pytest.fixture
def names():
    with served(Names()) as names:
        yield names


@pytest.fixture
def stage(tmp_path, clock, web, names):
    stage = Stage(tmp_path, clock)
    stage.port, stage.dns_port = web.server_port, names.server_address[1]
    return stage


@pytest.fixture
def said(capsys, stage):
    """The lines so far, with PAGE for the page's address."""
    return lambda: capsys.readouterr().out.replace(f"http://127.0.0.1:{stage.port}", "PAGE").splitlines()


def tell(stage, seconds=0.0):
    with Story(stage, seconds) as told:
        told.tell()


STORY = """\
   0.0 s  Three hosts on this machine, keys from a CA made just now, no central server.
   0.0 s  alpha, beta, gamma are up and know each other, 0 ms after they were started.
   0.0 s  Watch it all: PAGE/
   0.0 s  Files dropped: Primes, TimeOfDay at alpha, Temperature at beta. All know 0 ms later.
   0.0 s  TimeOfDay says replicas=2: two living holders at all times. beta has a copy.
   0.0 s  Three ways to ask. Each answer is a host that has just agreed to the call.
   0.0 s    bdwhereis  PAGE/axis/Temperature?wsdl   (0 ms, the whole command)
   0.0 s    DNS        Temperature.bd.internal is at port 8080   (0 ms)
   0.0 s    HTTP       PAGE/Primes leads to PAGE/axis/Primes?wsdl   (0 ms)
   0.0 s  Called it by SOAP: the prime factors of 600851475143 are 71 839 1471 6857.
   0.0 s  Now clients come. Each call of Primes weighs 5; alpha is overloaded above 30.
   0.0 s    call  1: alpha serves   alpha ##....................... 5
   0.0 s    call  2: alpha serves   alpha #####.................... 10
   0.0 s    call  3: alpha serves   alpha ########................. 15
   0.0 s    call  4: alpha serves   alpha ##########............... 20
   0.0 s    call  5: alpha serves   alpha ############............. 25
   0.0 s    call  6: alpha serves   alpha ###############.......... 30
   0.0 s    call  7: beta  serves   alpha ###############.......... 30
   0.0 s  alpha said NO. In 5 ms the mesh copied Primes to beta, which took that very call.
   0.0 s  9 more calls, none more than its host bears: beta 5, gamma 4. gamma was given a copy on the way.
   0.0 s  kill -9 of beta, while 30 calls of TimeOfDay go on …
   1.5 s  30 of 30 were answered by a living host. All knew of the death after 1.0 s,
   1.5 s  and after 1.0 s TimeOfDay had two living holders again.
   1.5 s  beta is started again: all know 0 ms later.
  60.1 s  Load is forgotten by the second: 59 s later nothing needs attention, and all have room.
  60.1 s  A gentle load goes on.
"""


def test_the_whole_story_in_its_order(stage, said):
    tell(stage)
    lines = said()
    assert lines[: lines.index("")] == STORY.splitlines()
    assert lines[-1] == "  60.1 s  Ending all processes …"


def test_what_the_story_does_to_its_stage_and_in_which_order(stage):
    tell(stage)
    assert stage.did == [
        "begin", "wait for alpha", "wait for beta", "wait for gamma", "wait until they know each other",
        "open the gateway of alpha", "kill beta", "start beta", "wait for beta", "wait until they know each other", "end",
    ]  # fmt: skip


def test_ending_is_said_before_it_takes_its_time(stage, said):
    stage.__exit__ = lambda *exception: print("ended")
    tell(stage)
    assert said()[-2:] == ["  60.1 s  Ending all processes …", "ended"]


def test_what_the_dead_had_is_offered_no_more(stage):
    _, beta, gamma = stage.hosts
    for host in (beta, gamma):
        open(os.path.join(host.services, "Hello.bdcert"), "w").close()
    assert story._offered(stage.hosts[0]) == {"Hello": ["beta", "gamma"]}
    stage.dies_after = 0.0
    beta.kill()
    assert story._offered(stage.hosts[0]) == {"Hello": ["gamma"]}


def test_ports_that_were_taken_are_said_first(stage, said):
    stage.notices = ["Port 8460 is taken: the page is at 9000.", "Port 8461 is taken: DNS is at 9001."]
    tell(stage)
    assert [line[10:] for line in said()[:3]] == [
        *stage.notices,
        "Three hosts on this machine, keys from a CA made just now, no central server.",
    ]


def test_a_service_is_there_before_it_is_offered(stage, monkeypatch):
    copied = []

    def copy(source, folder):
        copied.append((os.path.relpath(source, SAMPLES), os.path.basename(folder)))
        shutil.copy(source, folder)

    monkeypatch.setattr(story, "shutil", SimpleNamespace(copy=copy, which=shutil.which))
    tell(stage)
    assert copied == [
        (name + suffix, host)
        for name, host in (("Primes", "alpha"), ("TimeOfDay", "alpha"), ("Temperature", "beta"))
        for suffix in ("", ".bdcert")
    ]


def test_two_holders_are_asked_of_time_of_day_alone(stage):
    tell(stage)
    for name in ("Primes", "TimeOfDay"):
        with open(os.path.join(SAMPLES, f"{name}.bdcert")) as file:
            sample = file.read()
        assert stage.said_of(name) == sample + ("replicas=2\n" if name == "TimeOfDay" else "")


def test_each_call_is_soap_at_the_url_without_its_wsdl(stage, web):
    tell(stage)
    assert len(web.calls) == 1 + 7 + 9
    for path, action, body in web.calls:
        assert (path, action) == ("/axis/Primes", '"urn:bdserver:demo:Primes#Factors"') and f"<p:number>{NUMBER}<" in body


def test_the_sample_itself_answers_that_call_with_what_the_story_tells():
    with served(Container("127.0.0.1", 0, SAMPLES)) as container:
        said = story._call(f"http://127.0.0.1:{container.server_port}/axis/Primes?wsdl")
    assert "<factors>71 839 1471 6857</factors>" in said


# --- what does not happen -----------------------------------------------------------------------------------------


def fails(stage, words):
    """The story ends with these words, and all that was begun is ended."""
    with pytest.raises(AssertionError, match=words):
        tell(stage)
    assert stage.did[-1] == "end"


def test_a_host_that_does_not_come_up_ends_the_story(stage, said):
    stage.mute = ("beta",)
    fails(stage, "^not within 20 s: beta answers$")
    assert stage.did == ["begin", "wait for alpha", "wait for beta", "end"]
    assert [line[10:] for line in said()] == [STORY.splitlines()[0][10:], "Ending all processes …"]


def test_a_host_that_does_not_come_back_ends_it_too(stage):
    def start(host):
        stage.mute = (host.name,)

    stage.start = start
    fails(stage, "^not within 20 s: beta answers$")


def test_services_that_nobody_hears_of(stage, clock):
    stage.heal = lambda: None
    for host in stage.hosts:
        host.offers = list
    fails(stage, "^not within 20 s: all nodes know the services$")
    assert clock.now > 1020


def test_a_copy_that_is_not_made(stage):
    stage.heal = lambda: None
    fails(stage, "^not within 20 s: TimeOfDay has its copy$")


def test_a_look_up_that_fails_says_why(stage):
    stage.complaint = "bdwhereis: Temperature: nobody in the mesh has it\n"
    fails(stage, "^bdwhereis: Temperature: nobody in the mesh has it$")


def test_dns_that_knows_no_port(stage, names):
    names.port = 0
    fails(stage, "^DNS says of Temperature: NXDOMAIN, and no port$")


def test_factors_that_are_none(stage, web):
    web.factors = "6"
    fails(stage, "^<factors>6</factors>$")


def test_a_host_that_is_never_overloaded(stage, web):
    stage.threshold = 1000
    fails(stage, "^a hundred calls did not overload alpha$")
    assert len(web.calls) == 100


def test_a_death_that_is_known_late_and_a_copy_later_still(stage, said):
    stage.dies_after = 3.0
    tell(stage)
    text = "\n".join(said())
    assert "All knew of the death after 3.0 s,\n" in text and "and after 3.0 s TimeOfDay had two living holders again." in text


def test_a_death_that_nobody_notices(stage):
    stage.dies_after = 1e6
    fails(stage, "^not within 30 s: all know that beta is dead$")


def test_a_service_that_stays_with_one_living_holder(stage):
    kill = stage.hosts[1].kill

    def and_no_copies_any_more():
        kill()
        stage.heal = lambda: None

    stage.hosts[1].kill = and_no_copies_any_more
    fails(stage, "^not within 30 s: TimeOfDay has two living holders again$")


@pytest.mark.parametrize("instead", [("node", "beta"), ("node", ""), ("url", "http://127.0.0.1:{}/axis/Primes?wsdl")])
def test_calls_that_no_living_host_answered_are_counted(stage, instead):
    """They were sent to the dead, or to nobody, or something else came back."""
    alpha, stale = stage.hosts[0], 2
    lookup = alpha.lookup

    def sometimes_wrong(service):
        nonlocal stale
        [said] = lookup(service)
        if service == "TimeOfDay" and stale:
            stale -= 1
            said[instead[0]] = instead[1].format(stage.port)
        return [said]

    alpha.lookup = sometimes_wrong
    fails(stage, "^2 calls failed$")


def test_calls_that_all_hosts_share_are_told_in_a_line_of_a_terminal(stage, said):
    served_by = itertools.cycle(NAMES)
    url = f"http://127.0.0.1:{stage.port}/axis/Primes?wsdl"
    asker = SimpleNamespace(
        lookup=lambda service: [{"node": next(served_by), "url": url}],
        nodes=lambda: [{"name": name, "status": ALIVE, "services": ["Primes"]} for name in ("alpha", "gamma")],
    )
    Story(stage)._share(asker)
    line = "9 more calls, none more than its host bears: alpha 3, beta 3, gamma 3. beta was given a copy on the way."
    assert said() == ["   0.0 s  " + line] and len("   0.0 s  " + line) <= 120


def test_what_still_needs_attention(stage):
    stage.warnings = ["the disk is full"]
    fails(stage, "^not within 90 s: nothing needs attention$")


# --- the gentle load ----------------------------------------------------------------------------------------------


def linger(stage, seconds):
    """The last scene alone."""
    with Story(stage, seconds) as told:
        told._publish(*stage.hosts[:2])
        told._linger(stage.hosts[0])


def test_one_host_bears_the_gentle_load_and_what_the_story_left_to_it():
    """The calls before, all of one age: the most that a host may have when it is said to have room."""
    cost = bdcert.read_service(SAMPLES, "Primes").cost
    for age in range(FRESH, HORIZON):
        before = (HIT, -age, THRESHOLD * CALM_SHARE * age / FRESH / cost)
        for now in range(5 * HORIZON):
            calls = [(HIT, second, 1) for second in range(0, now + 1, round(GENTLE_PAUSE))]
            assert weight([*reversed(calls), before], cost, now) < 0.9 * THRESHOLD, (age, now)


def test_the_load_is_a_call_each_eight_seconds_until_the_time_is_over(stage, web, clock, said):
    linger(stage, 20.0)
    assert len(web.calls) == 3 and 1020 <= clock.now < 1020.5
    assert "  20.0 s  Ending all processes …" in said()[-1]


def test_without_a_time_it_goes_on_until_it_is_interrupted(stage, web, clock, said):
    stage.happens = [(1500.0, KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        linger(stage, None)
    lines = said()
    assert (
        "   0.0 s  A gentle load goes on. Ctrl-C ends everything." in lines and lines[-1] == " 500.0 s  Ending all processes …"
    )
    assert stage.did[-1] == "end" and len(web.calls) == pytest.approx(62, abs=3)


def test_what_happens_on_the_stage_is_told_when_it_happens(stage, said):
    stage.happens = [(1003.0, "gamma has ended. It is started again in 20 s."), (1023.0, "gamma is started again.")]
    linger(stage, 30.0)
    assert [line for line in said() if "gamma" in line and "started" in line] == [
        "   3.0 s  gamma has ended. It is started again in 20 s.",
        "  23.0 s  gamma is started again.",
    ]


def test_a_visitor_may_end_whoever_serves_and_the_load_goes_on(stage, web):
    stage.error = NobodyThere("alpha.sock: Connection refused")
    linger(stage, 10.0)
    assert web.calls == []


@pytest.mark.parametrize(("dig", "command"), [("/usr/bin/dig", "dig @127.0.0.1 -p {} +short"), (None, "./ask-dns")])
def test_visitors_are_told_where_they_are_and_asked_to_paste_what_this_machine_has(stage, said, monkeypatch, dig, command):
    monkeypatch.setattr(story.shutil, "which", {"dig": dig}.get)
    linger(stage, 0.0)
    lines = said()
    assert "The page, which keeps itself up to date: PAGE/" in lines and f"cd {stage.folder}" in lines
    assert f"{command.format(stage.dns_port)} Primes.bd.internal SRV" in lines
    assert "curl -sLG PAGE/Primes -d wsdl | head -3" in lines
    assert any("starts beta again after 20 s." in line for line in lines)
