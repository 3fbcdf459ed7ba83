from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.trainingdata.loopback import Raw, answered_by
from trainingdata.bars import Bars
from trainingdata.instruments import AssetClass

OPEN_TO_ALL = {
    "status": "active",
    **dict.fromkeys(("tradable", "shortable", "easy_to_borrow", "fractionable"), True),
}


@dataclass
class Venue:
    """Responses of a venue on loopback. faults: path → statuses that come before the answer."""

    bars: Bars
    account: dict[str, Any]
    now: str = "2024-03-05T17:30:20Z"
    positions: list[dict[str, Any]] = field(default_factory=list)
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, query: dict[str, str]) -> Any:
        self.asked.append(path)
        if self.faults.get(path):
            return Raw(self.faults[path].pop(0))
        plain = {"/v2/account": self.account, "/v2/positions": self.positions, "/v2/orders": []}
        if path in plain:
            return plain[path]
        if path.startswith("/v2/assets/"):
            return self.assets.get(path.removeprefix("/v2/assets/"), Raw(404))
        if path == "/v2/clock":
            return {"timestamp": self.now, "is_open": True}
        if path in ("/v2/stocks/bars", "/v1beta3/crypto/us/bars"):
            return {"bars": self._bars(query), "next_page_token": None}
        return Raw(404)

    def _bars(self, query: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
        """Stock hours come as two half-hours, coins as hours."""
        found: dict[str, list[dict[str, Any]]] = {}
        start, end = (
            np.datetime64(pd.Timestamp(query[k]).tz_convert("UTC").tz_localize(None))
            for k in ("start", "end")
        )
        for name in query["symbols"].split(","):
            symbol = name.replace("/", "")
            if symbol not in self.bars.symbols:
                continue
            s = self.bars.symbols.index(symbol)
            rows = []
            for known, (o, h, low, c, v) in zip(*self.bars.bars_of_symbol(s), strict=True):
                began = known - np.timedelta64(1, "h")
                coin = self.bars.instruments[s].kind is AssetClass.CRYPTO
                if not coin and known.astype("datetime64[m]").astype(int) % 60 == 0:
                    began = known - np.timedelta64(30, "m")
                half = began + np.timedelta64(30, "m")
                whole = coin or half == known
                parts = (
                    [(began, o, h, low, c, v)]
                    if whole
                    else [(began, o, h, low, o, v / 2), (half, o, h, low, c, v / 2)]
                )
                rows += [p for p in parts if start <= p[0] <= end]
            found[name] = [
                dict(zip("tohlcv", (f"{at}Z", *numbers), strict=True)) for at, *numbers in rows
            ]
        return found


@pytest.fixture
def venue(market: Bars) -> Iterator[Venue]:
    """A venue with 100,000 USD in cash that sells the synthetic market."""
    state = Venue(
        bars=market,
        account={
            "cash": "100000",
            "non_marginable_buying_power": "100000",
            "multiplier": "4",
            "shorting_enabled": True,
        },
        assets={symbol: OPEN_TO_ALL for symbol in market.symbols},
    )
    with answered_by(state.answer, "KEYKEYKEY") as state.url:
        yield state
