"""The modes of the live command: preview, dry cycle, trading on paper or with money, replay."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from execution.decision.trader import Trader
from execution.live.accounts import TRADE_JOB
from execution.live.arguments import PREVIEW_ARGUMENT, parse_live_overrides
from execution.live.cycle_report import (
    CycleLogger,
    CyclePrinter,
    print_cycle,
    print_symbols_without_decision,
    print_symbols_without_order,
)
from execution.live.preview import read_positions, run_dry_cycle, show_preview
from execution.live.runner import open_trading_loop
from execution.live.settings import LiveSettings
from foundation.cli import Result
from foundation.compose import compose_config
from foundation.console import tolerate_print_errors
from foundation.errors import InputError, invalid_choice_error
from foundation.files import may_overwrite
from foundation.notifier import Supervisor
from foundation.plugin import load_product_object
from foundation.signals import exit_on_errors
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import KEY_VARIABLE, ApiKeys
from trainingdata.feed.market_data import MarketData

log = logging.getLogger("live")


ORDER_SENDING_MODES = ("paper", "live")
NOTHING_SENT_TEXT = "no orders were sent"
# The modes, and the state after an interruption of each.
INTERRUPTION_TEXT_BY_MODE = {
    **dict.fromkeys(("dry", PREVIEW_ARGUMENT), NOTHING_SENT_TEXT),
    **dict.fromkeys(ORDER_SENDING_MODES, "orders already sent remain at the venue"),
    "replay": "completed cycles are in the journal; repeat the same command to continue",
}


def build_venue_components(config: DictConfig) -> tuple[LiveSettings, ApiKeys, BarFeed, Trader]:
    """Build the settings, API keys, bar feed and trader of a run at a venue.

    Raises InputError for settings, keys or files that are invalid in the configured mode.
    """
    settings = LiveSettings.from_config(config)
    _refuse_unconfirmed(config, settings)
    keys = ApiKeys.from_environment(os.environ)
    _refuse_wrong_keys(settings, keys)
    if not settings.symbols and TRADE_JOB in settings.jobs:
        raise InputError("symbols: not set; list the symbols to trade, such as [NVDA,BTCUSD]")
    settings.check_input_files()
    names = tuple(sorted(settings.tradable_symbols))
    settings.check_schedule(settings.timeframe_or_hourly, names)
    for unused in settings.unused_symbol_warnings(names, settings.data.actions_to_book()):
        log.warning("%s", unused)
    # A replay's clock waits for its caller: a missing bar would never arrive.
    if config.mode == "replay":
        settings = replace(settings, bar_wait_seconds=0.0)
    adjustment, timeframe = settings.data.adjustment, settings.timeframe_or_hourly
    data = MarketData(settings.broker, keys, settings.data.feed, adjustment, timeframe)
    feed = BarFeed(data, names, settings.effective_history_days, settings.bar_wait_seconds)
    return settings, keys, feed, settings.build_trader(settings.forecaster.build(names))


def _refuse_unconfirmed(config: DictConfig, settings: LiveSettings) -> None:
    """Reject live trading unless `confirm_live` is true and `broker.paper` is false."""
    live = config.mode == "live"
    if live and config.confirm_live is not True:
        raise InputError("mode: live trades real money; confirm it with confirm_live=true")
    if live and settings.broker.paper:
        raise InputError("broker.paper: true conflicts with mode=live; set broker.paper=false")
    if not live and config.mode in ORDER_SENDING_MODES and not settings.broker.paper:
        raise InputError(
            f"broker.paper: false conflicts with mode={config.mode}; set it to true, or set"
            " mode=live to trade real money"
        )


def _refuse_wrong_keys(settings: LiveSettings, keys: ApiKeys) -> None:
    """Reject live keys in paper mode, and paper keys in live mode."""
    kind = "live" if keys.are_live else "paper" if keys.are_paper else ""
    wanted = "paper" if settings.broker.paper else "live"
    if settings.broker.is_live_host and settings.broker.paper:
        raise InputError(
            f"broker.url_override: {settings.broker.address} trades real money but broker.paper is"
            " true; remove the override, or set mode=live to trade real money"
        )
    if kind and kind != wanted and not settings.broker.is_loopback:
        raise InputError(
            f"{KEY_VARIABLE}: this is the key of a {kind} account but broker.paper requires a"
            f" {wanted} one; set the keys of a {wanted} account"
        )


def run_at_venue(config: DictConfig) -> Result | None:
    """Run the configured mode at a venue: the trading loop, a replay or a preview.

    Only a preview returns a result.
    """
    settings, keys, feed, trader = build_venue_components(config)
    if named := [key for key in ("start", "end", "days") if config[key] is not None]:
        with tolerate_print_errors():
            sys.stderr.write(f"{', '.join(named)}: ignored; the venue's clock sets the period.\n")
    reports = CycleLogger(settings)
    if config.mode == "replay":
        output, overwrite = Path(config.output), may_overwrite(config)
        run_replay = load_product_object("MODES", config.mode)
        summary = run_replay(
            settings, keys, feed, trader, output, overwrite=overwrite, reporter=reports
        )
        sys.stdout.write(f"{summary}\n")
    elif config.mode in ORDER_SENDING_MODES:
        decides = trader if TRADE_JOB in settings.jobs else None
        supervisor, cycles = Supervisor.from_environment(os.environ), config.cycles
        with open_trading_loop(
            settings,
            keys,
            feed,
            decides,
            supervisor,
            cycles=cycles,
            reporter=CyclePrinter(settings),
        ) as loop:
            if loop is not None:
                loop.run()
    else:
        return show_preview(settings, keys, feed, trader)
    return None


def parse_arguments(words: Sequence[str]) -> tuple[DictConfig, None]:
    """Compose the configuration; return it, and None because there is no output folder.

    Raises InputError for an unknown mode or an invalid number of cycles.
    """
    config = compose_config("live", parse_live_overrides(words))
    if config.mode not in INTERRUPTION_TEXT_BY_MODE:
        raise invalid_choice_error("mode", config.mode, INTERRUPTION_TEXT_BY_MODE)
    if config.cycles is not None and (not isinstance(config.cycles, int) or config.cycles < 1):
        raise InputError(
            f"cycles: {config.cycles!r} is not a whole number above 0; set null to run until"
            " stopped"
        )
    return config, None


def run(settings: DictConfig) -> Result | None:
    """Run the configured mode; only a preview returns a result."""
    with exit_on_errors(INTERRUPTION_TEXT_BY_MODE[settings.mode]):
        if settings.mode != "dry":
            return run_at_venue(settings)
        live = LiveSettings.from_config(settings)
        cycle = run_dry_cycle(live, read_positions(settings))
        print_cycle(cycle)
        print_symbols_without_order(cycle)
        print_symbols_without_decision(cycle, live)
    return None
