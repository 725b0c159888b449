"""A WHEREIS over 1,000 holders with 20 different policies, with a client's policy and without: at most 2 x."""

import statistics
import time
from random import Random

from bdserver.core import policy
from bdserver.core.membership import Record, Service
from bdserver.core.messages import Yes
from bdserver.core.policies import Policies
from bdserver.core.routing import Question, Search, ordered
from bdserver.core.view import View

NODES, POLICIES, RUNS = 1000, 20, 60
DOCUMENT = (
    '<wsp:Policy xmlns:wsp="http://www.w3.org/ns/ws-policy" xmlns:z="urn:z"><wsp:ExactlyOne>{}</wsp:ExactlyOne></wsp:Policy>'
)


def a_view_of_many() -> View:
    """Of so many holders with so many policies."""
    view = View("me")
    view.start(Record("me", "me:1", (0, 0)), time.time())
    for number in range(NODES):
        zones = "".join(f"<z:zone{(number + i) % POLICIES}/>" for i in range(5))
        digest = policy.digest(DOCUMENT.format(zones))
        view.policies[digest] = DOCUMENT.format(zones)
        services = {"Echo": Service("static", 1.0, "", True)}
        view.put(Record(f"n{number}", f"10.0.0.1:{number + 1}", (1, 0), services=services, policy=digest))
    return view


def seconds(policies: Policies, view: View, client) -> float:
    """The processor time of one WHEREIS whose first candidate says YES."""
    question = Question(
        view,
        suits=lambda record: policies.suits(view, client, record),
        talkable=lambda record: True,
        can_talk=lambda a, b: True,
        ask=lambda name, request, limit: Yes(80, "axis", "http://there/"),
        left=lambda: 5.0,
        clock=time.monotonic,
        rng=Random(1),
        order=ordered,
    )
    started = time.process_time()
    assert Search(question, "Echo").whereis().word == "YES"
    return time.process_time() - started


def measure() -> tuple[float, float]:
    """(seconds without, seconds with a client's policy), medians of interleaved runs."""
    policies, view = Policies(None, "lax"), a_view_of_many()
    client = policy.parse(DOCUMENT.format("".join(f"<z:zone{i}/>" for i in range(10))))
    pairs = [(seconds(policies, view, None), seconds(policies, view, client)) for _ in range(RUNS)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


if __name__ == "__main__":
    without, with_one = measure()
    print(f"without {1e3 * without:.2f} ms, with {1e3 * with_one:.2f} ms, ratio {with_one / without:.2f} (budget 2.0)")
