"""The benchmarks, which nobody runs every day, can be begun."""

import pathlib

from tests.bench import run

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "BENCHMARKS.md"


def test_the_parts_that_the_document_names_are_there():
    assert "gateway" in run.PARTS
    assert {name for name in run.PARTS if f"PARTS={name}" in DOCUMENT.read_text()} >= {"gateway", "copies"}
