"""The sizing problem of an instant: what a strategy is given to answer."""

from __future__ import annotations

import numpy as np

from execution.beliefs import Belief, block_moments
from execution.fees import FeeSchedule, TradingCosts
from execution.lending import MarginTerms
from execution.orders import Account
from foundation.arrays import Array, Mask
from sizing.situation import Situation
from sizing.solver.multi_period import LaterBlocks, later_costs
from trainingdata.bars import Bars
from trainingdata.instruments import is_coin


def situation_of(
    bars: Bars,
    account: Account,
    belief: Belief,
    *,
    forecast: bool,
    sharpe: Array,
    leverage: float,
    stock_ceiling: float,
    costs: TradingCosts,
    fees: FeeSchedule,
    margin: MarginTerms,
) -> Situation:
    """The sizing problem over the panel's symbols, then what the account holds outside the panel.

    What is fixed and has no forecast counts for the ceilings and has no variance.

    Parameters
    ----------
    bars: the panel, whose symbols the belief is of.
    account: what is held and open; every symbol of it has a price.
    belief: of the instant.
    forecast: whether the strategy goes by the forecast.
    sharpe: [S] the stated Sharpe ratio that it goes by.
    leverage: stock gross granted now, in multiples of equity.
    stock_ceiling: what of it orders may reach.
    costs: of a trade, beside fees.
    fees: of a trade.
    margin: what borrowing costs, and what orders are checked at.

    Raises
    ------
    NoEquity
        for an account whose equity is not above zero.
    InputError
        for a position without a price.
    """
    outside = [symbol for symbol in account.exposure if symbol not in belief.symbols]
    crypto = bars.crypto
    long_only = bars.long_only
    deciding = belief.deciding
    years = belief.years[0]
    # An account to which the venue lends no shares holds stocks long only, like coins.
    if not account.shorting:
        long_only = np.ones(len(crypto), dtype=bool)
    # What is held outside the panel is never traded. It counts for ceilings and margin.
    if outside:
        none = np.zeros(len(outside), dtype=bool)
        crypto = np.append(crypto, _are_coins(outside))
        long_only = np.append(long_only, ~none)
        deciding = np.append(deciding, none)
        years = np.append(years, 0.0 * none)
    mu, covariance, universe = block_moments(
        belief.mu,
        belief.sigma,
        belief.premium * sharpe,
        belief.years,
        belief.correlation,
        belief.deciding,
        forecast,
        len(crypto),
    )
    tolls = margin.nightly_rate(np.array([belief.at])) * belief.nights
    cost = costs.expected(crypto, fees)
    earned = np.zeros(mu.shape)
    symbols = len(belief.symbols)
    earned[:, :symbols] = np.where(belief.deciding, belief.premium * sharpe * belief.years, 0.0)
    increments = np.zeros(len(crypto))
    increments[:symbols] = [float(item.increment) for item in bars.instruments]
    signal = np.zeros(len(crypto))
    signal[:symbols] = belief.signal if forecast else 0.0
    situation = Situation.of(
        (*belief.symbols, *outside),
        account,
        account.prices,
        mu=mu[0],
        covariance=covariance[0],
        cost=cost,
        crypto=crypto,
        long_only=long_only,
        deciding=deciding,
        universe=universe,
        years=years,
        stock_ceiling=stock_ceiling,
        leverage=leverage,
        order_margin=margin.order_margin,
        toll=float(tolls[0]),
        at=belief.at,
        later=LaterBlocks(
            mu[1:], covariance[1:], tolls[1:], later_costs(cost, signal, len(mu) - 1)
        ),
        earned=earned,
        increments=increments,
    )
    if not account.open_orders:
        return situation
    # An open reduction is counted as done in `held`. Until it has filled the position is still
    # there and margin is still needed for it, so it keeps its part of every ceiling.
    return situation.with_fixed(*_open_reductions(account))


def _open_reductions(account: Account) -> tuple[Array, Mask]:
    """Weights [M] that open orders have yet to take off positions, and which of them are coins."""
    quantities = account.open_reductions
    weights = []
    for symbol, quantity in quantities.items():
        weights.append(float(quantity) * account.prices[symbol] / account.equity)
    return np.array(weights), _are_coins(list(quantities))


def _are_coins(symbols: list[str]) -> Mask:
    """[M] whether each symbol is a coin."""
    return np.array([is_coin(symbol) for symbol in symbols], dtype=bool)
