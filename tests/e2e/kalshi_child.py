"""A process that sends one order to a practice venue, to be killed while it does.

python -m tests.e2e.kalshi_child URL KEY_ID KEY_FILE JOURNAL PRICE
"""

from __future__ import annotations

import sys
from pathlib import Path

from event_contracts.trading.actions import Admission
from event_contracts.trading.endpoint import KalshiKeys, KalshiSettings
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.manager import KalshiMultiMarketOrderManager
from execution.journal.intents import IntentBook
from foundation.database import Database
from tests.e2e.kalshi_desk import order


def main(url: str, key_id: str, key_file: str, journal: str, price: str) -> None:
    manager = KalshiMultiMarketOrderManager(
        KalshiSettings(url_override=url),
        KalshiKeys(key_id, Path(key_file).read_text()),
        Admission(),
        lambda *_: FeeRules(),
        book=IntentBook(Database(Path(journal))),
    )
    manager.submit(order("o-1", price))


if __name__ == "__main__":
    main(*sys.argv[1:])
