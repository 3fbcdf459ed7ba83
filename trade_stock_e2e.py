"""The live entry point: run the trader on an account at a venue, from the configuration.

    decide once and print the reasons, without sending orders:
        python trade_stock_e2e.py preview symbols=[NVDA,BTCUSD]
    trade a paper account every hour until stopped:
        python trade_stock_e2e.py symbols=[NVDA,BTCUSD] mode=paper cycles=null
    trade real money:
        python trade_stock_e2e.py symbols=[…] mode=live confirm_live=true broker.paper=false …
    replay the history of a practice server:
        python trade_stock_e2e.py symbols=[…] mode=replay broker.url_override=URL

Without a venue, `data.dir=[DIR] capital=50000 positions.NVDA=100` names bar files and describes an
account. The trader then decides once for this account, and no order is sent (a dry cycle).
`execution/live/` has the loop, its journal and its guards.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("trade_stock_e2e")

from execution.live.modes import parse_arguments as parse_arguments
from execution.live.modes import run as run
