"""For all unit tests: what they write need not survive a power cut, and a disk would be waited for 15,000 times."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def nothing_waits_for_the_disk():
    """Whether, and in which order, something is synced is asked by tests that put functions of their own into these places."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        patch.setattr(os, "fdatasync", lambda file: None)
        yield
