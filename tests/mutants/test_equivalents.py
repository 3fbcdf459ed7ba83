"""What `equivalent.toml` says of the code as it is."""

from __future__ import annotations

import pytest

from tests.mutants.changes import mutants
from tests.mutants.measure import ROOT, equivalents


@pytest.mark.slow
@pytest.mark.xdist_group("mutants")
def test_what_is_listed_as_no_mutant_is_a_change_that_can_be_drawn() -> None:
    """A reason for code that is gone is no reason."""
    known = equivalents(ROOT / "tests" / "mutants" / "equivalent.toml")
    drawn = {m.key for file in {file for file, *_ in known} for m in mutants(ROOT, file, 10**6, 1)}
    assert set(known) <= drawn, sorted(set(known) - drawn)
