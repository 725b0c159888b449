"""What simulations run is not counted as covered.

They run each line of the core a million times and look at none of them alone; that is what unit tests are for. And counting
makes them three times slower.
"""

import sys

import pytest


@pytest.fixture(autouse=True)
def uncounted():
    """Whoever traces this process, as coverage does, pauses."""
    tracer = sys.gettrace()  # and not Coverage.stop: each start after it would add one more hook to every fork
    sys.settrace(None)
    yield
    sys.settrace(tracer)
