"""How it is done: orders, the trader's decision, brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation.cli import Command
from foundation.lazy import public

if TYPE_CHECKING:
    from execution.alpaca.broker import AlpacaBroker as AlpacaBroker
    from execution.broker import Asset as Asset
    from execution.broker import Broker as Broker
    from execution.decision import Decision as Decision
    from execution.live.settings import LiveSettings as LiveSettings
    from execution.orders import Account as Account
    from execution.orders import Fill as Fill
    from execution.orders import Order as Order
    from execution.quantity import get_qty as get_qty
    from execution.settings import TradingSettings as TradingSettings
    from execution.trader import Trader as Trader

BROKERS = {"alpaca": "execution.alpaca.broker"}
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
    "explain": Command("execution.explain"),
    "doctor": Command(
        "execution.doctor", config="live", interrupted="nothing was sent", private=True
    ),
    "live": Command(
        "execution.live", config="live", interrupted="nothing was changed", private=True
    ),
}
SETTINGS = {"live": "execution.live.settings:LiveSettings"}

__getattr__, __dir__, __all__ = public(__name__)
