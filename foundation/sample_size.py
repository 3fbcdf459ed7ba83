"""How much there has to be before a page shows a figure or makes a claim: one rule for all pages.

Figures that are scaled to a year take 60 days and 30 fills; what a run is compared with, and only
holds, takes the days alone. An interval, and with it a claim that one is ahead of another beyond
error, takes 20 days. Forecasts, whose errors go by weeks, take the 4 weeks that 20 sessions make.
"""

from __future__ import annotations

FEWEST_FILLS = 30  # for yearly figures
FEWEST_DAYS = 60  # the same
SHORTEST = 20  # days, for intervals that say anything
FEWEST_WEEKS = 4  # the same, where weeks are what is counted


def allows_annual_figures(trades: int, days: int) -> bool:
    return trades >= FEWEST_FILLS and days >= FEWEST_DAYS
