"""Practice: Alpaca's and Kalshi's servers for rehearsals, with faults on demand."""

from __future__ import annotations

from foundation.cli import Command

COMMANDS = {
    "alpaca_server": Command(
        "practice.alpaca_server",
        config="venue",
        interruption_text="the server has stopped",
        flag_by_setting={
            "symbols": "--symbols",
            "start": "--start",
            "end": "--end",
            "capital": "--capital",
            "data.dir": "--data-dir",
        },
    ),
    "kalshi_server": Command(
        "practice.kalshi_server",
        config="kalshi_venue",
        interruption_text="the server has stopped",
        is_private=True,
        flag_by_setting={
            "folder": "--folder",
            "markets": "--markets",
            "starting_cash": "--capital",
        },
    ),
}
SETTINGS = {
    "venue": "practice.settings:PracticeSettings",
    "kalshi_venue": "practice.settings:KalshiVenueSettings",
}
