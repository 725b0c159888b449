"""W3C's interoperability cases for WS-Policy, where they lie beside this checkout: normal forms and intersections."""

import pathlib
import re

import pytest

from bdserver.core.policy import intersect, parse
from bdserver.errors import BadPolicy

CASES = pathlib.Path(__file__).parents[3] / "shared" / "wspolicy"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="W3C's cases are not beside this checkout")


def document(name):
    return parse((CASES / f"{name}.xml").read_bytes(), name)


# Its reference leads to another document on the web; BDserver fetches none.
ELSEWHERE = "Policy28"
NORMALIZED = sorted(path.stem for path in (CASES / "Normalized").glob("*.xml") if path.stem != ELSEWHERE)
INTERSECTED = sorted(path.stem for path in (CASES / "Intersected").glob("*.xml"))


def test_the_cases_are_all_there():
    assert (len(NORMALIZED), len(INTERSECTED)) == (21, 91)


def test_a_reference_out_of_the_document_is_refused():
    with pytest.raises(BadPolicy, match="Policy28:5: PolicyReference to '#Policy1', which is not in this document"):
        document(ELSEWHERE)


@pytest.mark.parametrize("name", NORMALIZED)
def test_a_normal_form_is_as_w3c_has_it(name):
    assert document(name) == document(f"Normalized/{name}")


@pytest.mark.parametrize("case", INTERSECTED)
def test_an_intersection_is_as_w3c_has_it(case):
    a, b, mode = re.fullmatch(r"Policy(\d+)-(\d+)(?:-(lax|strict))?", case).groups()
    for each in [mode] if mode else ["lax", "strict"]:
        assert intersect(document(f"Policy{a}"), document(f"Policy{b}"), each) == document(f"Intersected/{case}"), each
