"""What the tests over the wire share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.e2e.chromium import Page, browsing, installed, opened
from tests.e2e.practice import OPENING, Practice, Start, practising


@pytest.fixture
def over_http() -> None:
    """Requests of a test to its practice servers take a socket."""


@pytest.fixture
def practice(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts servers on the synthetic market, which stop when the test ends."""
    with practising(wired="over_http" in request.fixturenames) as start:
        yield start


@pytest.fixture
def here(practice: Start) -> Practice:
    """One of two stocks, an hour after the open."""
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    return here


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program of a browser, for tests of pages: they are left out where there is none."""
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    return program


@pytest.fixture(scope="session")
def window(chromium: str) -> Iterator[Page]:
    """A browser for all tests of a process."""
    with browsing(chromium) as browser:
        yield browser


@pytest.fixture
def browser(window: Page) -> Iterator[Page]:
    """A page of its own."""
    with opened(window) as page:
        yield page


@pytest.fixture
def vix(tmp_path: Path) -> Path:
    """A file with a volatility index of every day that a practice server plays."""
    days = pd.bdate_range("2024-01-02", "2024-03-08", tz="UTC")
    levels = np.random.default_rng(5).uniform(28, 34, len(days))
    pd.DataFrame({"timestamp": days, "close": levels}).to_parquet(tmp_path / "vix.parquet")
    return tmp_path / "vix.parquet"
