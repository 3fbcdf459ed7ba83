"""The live entry point: compose a trader from configuration and let it decide.

    python trade_stock_e2e.py data.dir=[DIR] symbols=[NVDA,BTCUSD] end=2024-10-01T19:30Z +positions.NVDA=100

For now the only mode is `dry`: decide at the last instant of the bars for the account given by `capital` (cash) and
`positions`, print the orders and why, send nothing.
"""

from __future__ import annotations

import sys
from decimal import Decimal, InvalidOperation

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from execution.decision import Decision, keep_unsolved
from execution.orders import Account
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars, closes_of
from trainingdata.command import fail
from trainingdata.composition import composed
from trainingdata.errors import InputError
from trainingdata.instruments import instrument
from trainingdata.sessions import utc_text


def dry_run(config: DictConfig) -> tuple[Bars, Account, Decision | None]:
    """The bars, the account and the decision at the bars' last instant."""
    if config.mode != "dry":
        raise InputError(f"mode: {config.mode} is not there yet; dry is the only one and sends nothing")
    common = OmegaConf.masked_copy(config, [str(k) for k in config if k not in ("mode", "positions", "broker", "history_days")])
    settings = BacktestSettings.of(common)
    bars = settings.bars()
    prices = closes_of(bars)
    positions = _positions(config)
    unpriced = [s for s in positions if s not in prices]
    if unpriced:
        raise InputError(f"positions.{unpriced[0]}: there are no bars of it, so it has no price")
    account = Account(settings.capital, positions, prices, bars.now)
    trader = settings.trader(settings.forecaster.build(bars.symbols))
    return bars, account, trader.decide(bars, account)


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


def show(bars: Bars, account: Account, decision: Decision | None) -> None:
    """Print what was decided and why."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    when = utc_text(bars.now)
    if decision is None:
        console.print(f"{when}: nothing decides at this instant (no bar closed for a market that is open to fill).")
        return
    table = Table(
        "symbol", "mu, bp", "sigma, bp", "Kelly", "target", "order", "bound by", title=f"{when}, equity ${account.equity:,.2f}"
    )
    for c in decision.choices:
        figures = f"{c.mu * 1e4:+.1f}", f"{c.sigma * 1e4:.1f}", f"{c.kelly:+.3f}", f"{c.target:+.3f}", f"{c.qty:+f}"
        table.add_row(c.symbol, *figures, c.bound_by)
    console.print(table)
    for order in decision.orders:
        console.print(f"{order.side} {order.qty} {order.symbol}: {order.reason}", highlight=False, soft_wrap=True)
    if decision.failure:
        console.print(f"Enhanced sizing failed: {decision.failure}", highlight=False, soft_wrap=True)
    if decision.unsolved:
        console.print(f"The problem is in {keep_unsolved(decision.unsolved)}", highlight=False, soft_wrap=True)


def main() -> None:
    """Command line: Hydra overrides of configs/live.yaml."""
    try:
        show(*dry_run(composed("live", sys.argv[1:])))
    except InputError as error:
        fail(error)


if __name__ == "__main__":
    main()
