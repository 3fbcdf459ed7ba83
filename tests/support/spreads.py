"""Option spreads on one underlying of a practice server."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from execution.alpaca.options import AlpacaSpreadAccount
from execution.orders.option_orders import OptionLeg, SpreadOrder, parse_occ_symbol
from tests.e2e.practice import KEYS, Practice, Start, forgotten
from tests.support.passing import HURRIED
from trainingdata.feed.endpoint import BrokerSettings

UNDER = "SYC"
AT = "2024-02-20T16:30:00Z"
SHORT = "SYC240220P00295000"
LONG = "SYC240220P00290000"
SPREAD = {"order_class": "mleg", "qty": "2", "type": "market", "time_in_force": "day"}
LEGS = [
    {"symbol": SHORT, "side": "sell", "ratio_qty": "1"},
    {"symbol": LONG, "side": "buy", "ratio_qty": "1"},
]


def options(practice: Start, vix: Path, *words: str) -> Practice:
    return practice(f"options.vix={vix}", f"options.symbols=[{UNDER}]", *words)


def spreads(here: Practice, patience: float = 0.0) -> AlpacaSpreadAccount:
    settings = BrokerSettings(url_override=here.url, read_timeout=5.0)
    return AlpacaSpreadAccount(
        settings, KEYS, underlying=UNDER, book=forgotten()[1], patience=patience, time=HURRIED
    )


def put(name: str, count: int = 1, least: str | None = None, *, back: bool = False) -> SpreadOrder:
    held = OptionLeg(parse_occ_symbol(SHORT), "sell"), OptionLeg(parse_occ_symbol(LONG), "buy")
    legs = tuple(leg.closing_leg for leg in held) if back else held
    return SpreadOrder(name, legs, count, None if least is None else Decimal(least))
