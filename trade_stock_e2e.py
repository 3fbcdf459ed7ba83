"""The live entry point: compose a trader, a venue and a feed from configuration, and let it decide.

    decide once, print why, send nothing:
        python trade_stock_e2e.py symbols=[NVDA,BTCUSD] account=venue
    three decisions, orders to paper:
        python trade_stock_e2e.py symbols=[NVDA,BTCUSD] mode=paper cycles=3
    a practice server's whole history:
        python trade_stock_e2e.py symbols=[…] mode=replay broker.url_override=URL

Without a venue, `data.dir=[DIR] capital=50000 +positions.NVDA=100` describes bars and an account
for a dry pass. Orders go to a paper account or a practice server only: the unattended loop with its
journal and guards is not there yet.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import requests
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.updates import TradeUpdates
from execution.decision import Decision, keep_unsolved
from execution.live.cycle import NOTHING_CLOSED, Cycle, next_instant, run_cycle, wait_until
from execution.orders import Account
from execution.records import Run, writers_of
from execution.settings import LiveSettings
from execution.trader import Trader
from execution.venue_rules import VenueRules
from foundation.command import ProgressBar, log_to_file, one_line
from foundation.compose import composed
from foundation.errors import InputError
from foundation.files import check_output, write_whole
from trainingdata.bars import closes_of
from trainingdata.feed.endpoint import LOOPBACK, Keys
from trainingdata.feed.market_data import BarFeed, MarketData
from trainingdata.instruments import instrument
from trainingdata.sessions import system_clock, utc_text

log = logging.getLogger("live")

CLOCKS = ("broker", "system")


def described(config: DictConfig) -> Cycle:
    """A dry pass over files, for the account that `capital` and `positions` describe."""
    settings = LiveSettings.of(config)
    bars = settings.bars()
    prices = closes_of(bars)
    positions = _positions(config)
    unpriced = [s for s in positions if s not in prices]
    if unpriced:
        raise InputError(f"positions.{unpriced[0]}: there are no bars of it, so it has no price")
    account = Account(settings.capital, positions, prices, bars.now)
    trader = settings.trader(settings.forecaster.build(bars.symbols))
    decision = trader.decide(settings.seen(bars), account)
    return Cycle(account, bars, decision, (), "" if decision else NOTHING_CLOSED)


def _positions(config: DictConfig) -> dict[str, Decimal]:
    held: dict[str, Decimal] = {}
    for symbol, quantity in config.positions.items():
        item = instrument(str(symbol))
        try:
            held[item.symbol] = Decimal(str(quantity))
        except InvalidOperation:
            raise InputError(f"positions.{symbol}: {quantity!r} is no quantity") from None
        if not held[item.symbol].is_finite() or (held[item.symbol] < 0 and not item.shortable):
            raise InputError(f"positions.{symbol}: {quantity} cannot be held")
    return held


def venue(config: DictConfig) -> tuple[LiveSettings, Keys, BarFeed, Trader]:
    """The settings, the keys, the bars and the trader of a run at a venue.

    Raises
    ------
    InputError
        for settings that cannot be used, keys that are not there, and an account with real money.
    """
    settings = LiveSettings.of(config)
    if not settings.broker.paper and settings.broker.url_override is None:
        raise InputError(
            "broker.paper: false; orders with real money wait for the journal and guards, which are"
            " not there yet"
        )
    if not settings.symbols:
        raise InputError("symbols: a venue has too many; name those to trade")
    keys = Keys.of(os.environ)
    names = tuple(sorted(instrument(s).symbol for s in settings.symbols))
    settings = (
        replace(settings, bar_patience=0.0) if config.mode == "replay" else settings
    )  # its clock waits, bars do not come
    data = MarketData(settings.broker, keys, settings.data.feed, settings.data.adjustment)
    feed = BarFeed(data, names, settings.history_days, settings.bar_patience)
    return settings, keys, feed, settings.trader(settings.forecaster.build(names))


def trade(config: DictConfig) -> None:
    """Pass after pass, each at the next instant at which anything may decide; the first at once."""
    settings, keys, feed, trader = venue(config)
    with (
        TradeUpdates(settings.broker, keys) if config.mode == "paper" else nullcontext() as updates
    ):
        listen = None if updates is None else updates.wait
        broker = AlpacaBroker(settings.broker, keys, terms=settings.orders, listen=listen)
        rules = VenueRules(broker)
        clock = broker.now if config.clock == "broker" else system_clock
        for number in range(config.cycles):
            if number:
                wait_until(clock, next_instant(clock(), settings.symbols))
            done = run_cycle(
                broker, feed, trader, settings, send=config.mode == "paper", rules=rules
            )
            _log(done)
            show(done)


def replay(config: DictConfig) -> None:
    """Every instant that a practice server's clock still has, the clock moved after each; the files
    of a run, as a backtest's.

    Raises
    ------
    InputError
        for an address that is no practice server with a waiting clock.
    """
    settings, keys, feed, trader = venue(config)
    broker = AlpacaBroker(settings.broker, keys, terms=settings.orders, patience=0.0)
    url = settings.broker.address
    output = Path(config.output)
    if url is None or urlsplit(url).hostname not in LOOPBACK:
        raise InputError(
            "broker.url_override: a replay needs a practice server on this machine"
            " (marketsimulator.alpaca_server)"
        )
    check_output(output)
    rules = VenueRules(broker)
    began = broker.now()
    decisions = []
    curve = []
    with ProgressBar() as progress:
        while True:
            done = run_cycle(broker, feed, trader, settings, send=True, rules=rules)
            _log(done)
            decisions += [] if done.decision is None else [done.decision]
            after = (
                broker.account()
                if done.decision is not None and done.decision.orders
                else done.account
            )
            curve.append((after.as_of, after.cash, after.equity))
            answer = requests.post(f"{url}/control/advance", json={}, timeout=60)
            if answer.status_code != 200:
                raise InputError(
                    f"broker.url_override: {url} has no clock that waits (status"
                    f" {answer.status_code})"
                )
            left = int(answer.json()["left"])
            progress("instants", len(curve), len(curve) + left)
            if not answer.json()["moved"]:
                break
    run = Run(
        trader.forecaster.name,
        decisions,
        broker.fills_since(began - np.timedelta64(1, "s")),
        [],
        {},
    )
    equity = pd.DataFrame(curve, columns=["at", "cash", "equity"])
    equity["at"] = pd.DatetimeIndex(equity["at"]).tz_localize("UTC")
    write_whole({**writers_of(run), "equity.parquet": equity.to_parquet}, output)
    sys.stdout.write(
        json.dumps({"instants": len(curve), "fills": len(run.fills), "equity": curve[-1][2]}) + "\n"
    )


def show(done: Cycle) -> None:
    """Print what was decided and why, and what filled."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    decision = done.decision
    when = utc_text(done.account.as_of)
    if decision is None:
        console.print(f"{when}: {done.idle}.", highlight=False, soft_wrap=True)
        return
    table = Table("symbol", "mu, bp", "sigma, bp", "Kelly", "target", "order", "bound by")
    table.title = f"{utc_text(decision.at)}, equity ${done.account.equity:,.2f}"
    for c in decision.choices:
        figures = (
            f"{c.mu * 1e4:+.1f}",
            f"{c.sigma * 1e4:.1f}",
            f"{c.kelly:+.3f}",
            f"{c.target:+.3f}",
            f"{c.qty:+f}",
        )
        table.add_row(c.symbol, *figures, c.bound_by)
    console.print(table)
    _explain(console, decision)
    for fill in done.fills:
        console.print(f"filled {fill.qty:+f} {fill.symbol} at {fill.price:,.4f}", highlight=False)


def _explain(console: Console, decision: Decision) -> None:
    for order in decision.orders:
        console.print(
            f"{order.side} {order.qty} {order.symbol}: {order.reason}",
            highlight=False,
            soft_wrap=True,
        )
    if decision.failure:
        console.print(
            f"Enhanced sizing failed: {decision.failure}", highlight=False, soft_wrap=True
        )
    if decision.unsolved:
        console.print(
            f"The problem is in {keep_unsolved(decision.unsolved)}", highlight=False, soft_wrap=True
        )


def _log(done: Cycle) -> None:
    """The lines operators grep for."""
    if (decision := done.decision) is None:
        log.info("%s idle: %s", utc_text(done.account.as_of), done.idle)
        return
    if decision.failure:
        log.warning("Enhanced sizing failed: %s", decision.failure)
    for line in (
        *decision.sized,
        *(f"{o.client_order_id}: {o.side} {o.qty}: {o.reason}" for o in decision.orders),
    ):
        log.info("%s %s", utc_text(decision.at), line)
    for fill in done.fills:
        log.info("filled %s: %+f at %s", fill.client_order_id, fill.qty, fill.price)


def run(config: DictConfig) -> None:
    """One of the modes."""
    if config.mode not in ("dry", "paper", "replay"):
        raise InputError(f"mode: {config.mode} is none of dry, paper, replay")
    if config.clock not in CLOCKS:
        raise InputError(f"clock: {config.clock} is none of {', '.join(CLOCKS)}")
    if not isinstance(config.cycles, int) or config.cycles < 1:
        raise InputError(f"cycles: {config.cycles} is no number above 0")
    if config.mode == "replay":
        replay(config)
    elif config.mode == "dry" and config.account != "venue" and config.broker.url_override is None:
        show(described(config))
    else:
        trade(config)


def main() -> None:
    """Command line: Hydra overrides of configs/live.yaml."""
    with one_line("what was sent stays sent; nothing else was"):
        config = composed("live", sys.argv[1:])
        log_to_file("live")
        run(config)


if __name__ == "__main__":
    main()
