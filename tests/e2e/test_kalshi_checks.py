"""What must never be of event contracts is counted where it is: each damage, by its own count."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.kalshi_schedule import NEVER, schedule


@pytest.mark.slow
def test_nothing_that_must_never_be_comes_of_faults_and_kills(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        counts += schedule(seed, 3, folder)
    assert not {name: counts[name] for name in NEVER if counts[name]}
    assert counts["orders"]
