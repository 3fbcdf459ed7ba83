"""Live and simulated execution: decisions, orders, the journal, brokers and the live loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foundation import lazy_exports
from foundation.cli import Command
from foundation.errors import invalid_choice_error

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

PREVIEW_ARGUMENT = "preview"  # the only word of the live command line that is not a setting

COMMANDS = {
    "trade_stock_e2e": Command(
        "trade_stock_e2e",
        config="live",
        interruption_text="no orders were sent",
        log_name="live",
        log_links=("trade_stock_e2e", "sizing_utils"),
        override_parser_path="execution:parse_live_overrides",
        is_private=True,
        json_argument=PREVIEW_ARGUMENT,
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


def parse_live_overrides(arguments: Sequence[str]) -> list[str]:
    """Return the Hydra overrides (`key=value`) among the arguments of `trade_stock_e2e.py`.

    The argument `preview` becomes the override `mode=preview`. Any other argument is rejected.

    Raises
    ------
    InputError
        for an argument that is none of these.
    """

    from foundation.compose import is_override
    from foundation.shell import format_command

    words = []
    for word in arguments:
        if word == PREVIEW_ARGUMENT:
            continue
        if not is_override(word):
            command = format_command("python -m execution.live")
            also = f"a setting as key=value; for status, clear, kill: `{command}`"
            raise invalid_choice_error(
                "word", word, (PREVIEW_ARGUMENT,), other_accepted_values=also
            )
        words.append(word)
    # A later word wins: with `preview`, nothing is sent, whatever other words follow.
    return [*words, f"mode={PREVIEW_ARGUMENT}"] if PREVIEW_ARGUMENT in arguments else words


__getattr__, __dir__, __all__ = lazy_exports(__name__)
