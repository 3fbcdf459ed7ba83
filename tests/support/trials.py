"""A trial of a ledger, for tests that vary it."""

from __future__ import annotations

from marketsimulator.results.trials import Trial

TRIAL = Trial(
    *("c1", "d1", "files: x", ("AAA", "BTCUSD"), "2024-01-02T05:00Z", "2024-06-28T20:00Z"),
    *(120, 0.05, 0.1, "ewma"),
)
