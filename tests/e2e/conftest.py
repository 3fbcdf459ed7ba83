"""What the tests over the wire share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.practice import Start, practising


@pytest.fixture
def practice() -> Iterator[Start]:
    """Starts servers on the synthetic market, which stop when the test ends."""
    with practising() as start:
        yield start
