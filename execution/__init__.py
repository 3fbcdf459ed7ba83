"""Orders: the decision that makes them, the journal, the broker, and the live loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation import public
from foundation.cli import Command

if TYPE_CHECKING:
    from execution.alpaca.broker import AlpacaBroker as AlpacaBroker
    from execution.decision.decision import Decision as Decision
    from execution.decision.settings import TradingSettings as TradingSettings
    from execution.decision.trader import Trader as Trader
    from execution.live.settings import LiveSettings as LiveSettings
    from execution.orders.account_snapshot import AccountSnapshot as AccountSnapshot
    from execution.orders.broker import Asset as Asset
    from execution.orders.broker import Broker as Broker
    from execution.orders.orders import Fill as Fill
    from execution.orders.orders import Order as Order
    from execution.quantity import get_qty as get_qty

COMMANDS = {
    "trade_stock_e2e": Command(
        "trade_stock_e2e",
        config="live",
        interrupted="nothing was sent",
        log="live",
        log_links=("trade_stock_e2e", "sizing_utils"),
        words="execution.live.words:words_of",
        private=True,
    ),
    "doctor": Command(
        "execution.doctor", config="live", interrupted="nothing was sent", private=True
    ),
    "live": Command(
        "execution.live", config="live", interrupted="nothing was changed", private=True
    ),
}
SETTINGS = {"live": "execution.live.settings:LiveSettings"}

__getattr__, __dir__, __all__ = public(__name__)
