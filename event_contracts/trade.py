"""Trades event contracts at Kalshi with a policy, on a demo account unless told otherwise.

    python -m event_contracts.trade markets=[TICKER,…] policy=CHECKPOINT|kelly|random|nothing
    [mode=dry|paper|live] [steps=N] [key=value …]

Keys come from KALSHI_API_KEY_ID, and KALSHI_PRIVATE_KEY or KALSHI_PRIVATE_KEY_PATH. Real money
needs mode=live and confirm_live=true. Interrupted or killed, it goes on where it was when it is
started again. Told to stop it cancels its orders; after a crash they end by themselves.
"""

from __future__ import annotations

from foundation.command import start

if __name__ == "__main__":
    start("event_contracts.trade")

import os
import sys

from event_contracts.live import KalshiTradingSettings, trade
from event_contracts.trading.action_log import ActionEntry
from event_contracts.trading.endpoint import KalshiKeys
from execution.live.loop import Stop, stopped_by_signals
from foundation.command import printing
from trainingdata.instants import utc_text


def show(entry: ActionEntry) -> None:
    """Print a decision that was more than to hold."""
    if not entry.size:
        return
    with printing():
        what = f"{entry.intent} {entry.size} at ${entry.price}"
        sys.stdout.write(f"{utc_text(entry.at)} {entry.market}: {what}; {entry.answer}\n")


def run(settings: KalshiTradingSettings) -> None:
    stop = Stop()
    with stopped_by_signals(stop):
        trade(settings, KalshiKeys.of(os.environ), stop, show)
