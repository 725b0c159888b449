"""The original's own case: Apache Axis serves a .jws dropped into the servlet container's folder, and its replica elsewhere."""

import os

import pytest
import zeep

from tests.hosts import until

from . import containers
from .test_containers import folder, mesh, overload, whereis  # noqa: F401 (fixtures)

missing = containers.Jetty.missing()
pytestmark = pytest.mark.skipif(bool(missing), reason=f"needs Debian's {' '.join(missing)}")

CALCULATOR = """public class Calculator {
    public int add(int a, int b) { return a + b; }
    public String port() { return System.getProperty("jetty.http.port", "none"); }
}
"""


@pytest.fixture
def two(folder):  # noqa: F811
    """Two servlet containers, started side by side."""
    made = [containers.Jetty(folder / name) for name in ("first", "second")]
    try:
        for each in made:
            each.start()
        yield made
    finally:
        for each in made:
            each.stop()


def test_a_jws_dropped_into_axis_is_live_where_bdwhereis_says_and_so_is_its_replica(mesh, prefix, two):  # noqa: F811
    here, there = two
    alpha = containers.node(mesh, prefix, "alpha", here, receiver_threshold=20)
    containers.node(mesh, prefix, "beta", there, receiver_threshold=1000)
    mesh.wait_known()
    (here.services / "Calculator.jws").write_text(CALCULATOR)
    (here.services / "Calculator.jws.bdcert").write_text("weight=5\ntype=static\n")
    containers.give(here.services)
    url = whereis(alpha, "Calculator.jws")
    assert url == f"http://127.0.0.1:{here.port}/axis/Calculator.jws?wsdl"
    until(lambda: here.fetch("Calculator.jws?wsdl")[0] == 200, 30, "the first call compiles it")
    assert zeep.Client(url).service.add(2, 40) == 42
    assert here.fetch("Calculator.jws.bdcert")[0] == 403 and here.fetch("WEB-INF/web.xml")[0] == 404

    assert overload(alpha, "Calculator.jws") == "beta"
    url = whereis(alpha, "Calculator.jws")
    assert url == f"http://127.0.0.1:{there.port}/axis/Calculator.jws?wsdl"
    until(lambda: there.fetch("Calculator.jws?wsdl")[0] == 200, 30, "the replica is compiled there")
    assert zeep.Client(url).service.add(20, 3) == 23
    assert os.path.exists(there.services / "WEB-INF" / "jwsClasses" / "Calculator.class")
