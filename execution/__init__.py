"""Live and simulated execution: decisions, orders, the journal, brokers and the live loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation import lazy_exports
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
        interruption_text="no orders were sent",
        log_name="live",
        log_links=("trade_stock_e2e", "sizing_utils"),
        override_parser_path="execution.live.arguments:parse_live_overrides",
        is_private=True,
        json_argument="preview",
    ),
    "doctor": Command(
        "execution.doctor",
        config="doctor",
        interruption_text="no orders were sent, except those of a probe",
        is_private=True,
        json_argument="",
    ),
    "live": Command(
        "execution.live",
        config="live",
        interruption_text="nothing was changed",
        is_private=True,
        json_argument="status pause resume reduce exit flatten",
    ),
}
SETTINGS = {
    "live": "execution.live.settings:LiveSettings",
    "doctor": "execution.alpaca.probe:DoctorOptions",
}


__getattr__, __dir__, __all__ = lazy_exports(__name__)
