"""Instants as an account's page writes them."""

from __future__ import annotations

from datetime import UTC

import numpy as np
import pandas as pd

from trainingdata.instants import NEW_YORK, new_york_date


def clock(at: np.datetime64) -> str:
    """An instant in UTC and New York: 20 Feb 2024 16:30 UTC, 11:30 New York.

    New York's date is there where it is another one.
    """
    utc = pd.Timestamp(at, tz=UTC)
    local = utc.tz_convert(NEW_YORK)
    there = f"{local:%H:%M}" if local.date() == utc.date() else f"{local:%d %b %H:%M}"
    return f"{utc:%d %b %Y %H:%M} UTC, {there} New York"


def hour(at: np.datetime64) -> str:
    """An instant in UTC: 20 Feb 16:30."""
    return f"{pd.Timestamp(at):%d %b %H:%M}"


def day(at: np.datetime64) -> str:
    """The New York date of an instant: 20 Feb 2024."""
    return f"{pd.Timestamp(new_york_date(np.array([at]))[0]):%d %b %Y}"
