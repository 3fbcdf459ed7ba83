"""The options of the practice Alpaca: what they are quoted at, and the desk that trades them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from marketsimulator.settings import OptionTerms, VenueSettings
from option_spreads.simulation.desk import IndexMarket, OptionDesk
from option_spreads.simulation.pricing import Smile


@dataclass(frozen=True, slots=True)
class QuotedTerms(OptionTerms):
    """Options that a practice venue trades, and how it quotes them.

    smile: of implied volatility over strikes.
    """

    smile: Smile = field(default_factory=Smile)


@dataclass(frozen=True, slots=True)
class PracticeSettings(VenueSettings):
    """A practice venue: the bars, costs and margin of a backtest, and quoted options.

    options: that are traded on its stocks.
    """

    options: QuotedTerms = field(default_factory=QuotedTerms)


def desk(
    symbol: str,
    market: IndexMarket,
    terms: QuotedTerms,
    free_cash: Callable[[], float],
    cash_flow: Callable[[Decimal], None],
) -> OptionDesk:
    """What trades the options on a stock; arguments as in `OptionDesk`."""
    return OptionDesk(
        symbol, market, terms.smile, terms.slippage, free_cash=free_cash, cash_flow=cash_flow
    )
