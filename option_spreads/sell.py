"""Sell credit spreads on a paper account, monitor them and book their results.

    python -m option_spreads.sell vix=VIX.parquet [strategies=[PUT,IRON_CONDOR]]
    [broker.url_override=URL] [key=value …]

The seller sizes spreads by the account files that `python -m option_spreads.contracts init`
creates, and books its trades there. After an interruption or a kill, a restart resumes where it
was. Until then open spreads stay open and are not monitored. If someone trades its options by hand
as well, the seller sends an alert and no more orders. `python -m execution.live kill` ends it; with
--flatten it first buys back all open spreads.

The command runs the loop of `trade_stock_e2e.py` with the single job `spreads`.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("option_spreads.sell")

import os
from collections.abc import Sequence

from execution.live.accounts import SPREADS_JOB
from execution.live.runner import open_trading_loop
from execution.live.settings import LiveSettings
from foundation.compose import compose_config
from foundation.notifier import Supervisor
from option_spreads.selling.settings import SellingSettings
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import ApiKeys
from trainingdata.feed.market_data import MarketData


def sell_spreads(overrides: Sequence[str], keys: ApiKeys) -> None:
    """Sell and monitor spreads until the configured number of polls, or until a stop.

    overrides: `key=value` overrides of configs/sell_spreads.yaml.
    """
    selling = SellingSettings.from_config(compose_config("sell_spreads", list(overrides)))
    # Read first: an unreadable file fails before the venue is asked.
    selling.read_vix_closes()
    settings = LiveSettings(
        broker=selling.broker,
        folder=selling.folder,
        healthcheck_url=selling.HEALTHCHECK_URL,
        alert_url=selling.ALERT_URL,
        notice_urls=selling.notice_urls,
        notices=selling.notices,
        watch=selling.watch,
        jobs=(SPREADS_JOB,),
        spreads=tuple(overrides),
    )
    data = MarketData(selling.broker, keys, selling.feed)
    with open_trading_loop(
        settings,
        keys,
        BarFeed(data, (), settings.effective_history_days),
        None,
        Supervisor.from_environment(os.environ),
        cycles=selling.polls,
    ) as loop:
        if loop is not None:
            loop.run()


def parse_arguments(words: Sequence[str]) -> tuple[Sequence[str], None]:
    """Return the command line unchanged: overrides of configs/sell_spreads.yaml.

    The second element of the result is None, because the command has no output folder.
    """
    return words, None


def run(settings: Sequence[str]) -> None:
    sell_spreads(settings, ApiKeys.from_environment(os.environ))
