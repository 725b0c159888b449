"""Each fuzz target for a moment, from another seed each time: FUZZ_SEED=N runs the same again, FUZZ_EXAMPLES=N for longer."""

import os
from random import Random

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz import (
    fuzz_accesslog,
    fuzz_minisign,
    fuzz_package,
    fuzz_pairs,
    fuzz_policy,
    fuzz_record,
    fuzz_settings,
    fuzz_wire,
)
from tests.fuzz.running import mutated

MODULES = (fuzz_wire, fuzz_record, fuzz_policy, fuzz_settings, fuzz_pairs, fuzz_package, fuzz_accesslog, fuzz_minisign)
TARGETS = {module.__name__.rpartition("_")[2]: module for module in MODULES}
SEED = int(os.environ.get("FUZZ_SEED") or Random().randrange(1 << 32))


@pytest.mark.parametrize("name", TARGETS)
def test_what_it_begins_with_is_taken(name):
    assert all(map(TARGETS[name].one, TARGETS[name].SEEDS))


@pytest.mark.hypothesis
@pytest.mark.parametrize("name", TARGETS)
def test_no_matter_what_comes_the_invariant_holds(name):
    target = TARGETS[name]
    print(f"to see it again: FUZZ_SEED={SEED}")
    mutations = st.builds(mutated, st.sampled_from(target.SEEDS), st.just(target.TOKENS), st.randoms(use_true_random=True))

    examples = int(os.environ.get("FUZZ_EXAMPLES") or 5 * settings.default.max_examples)

    @seed(SEED)
    @settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    @given(mutations | st.binary(max_size=600))
    def no_matter_what(data):
        target.one(data)

    no_matter_what()
