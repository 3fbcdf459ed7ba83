"""A market of event contracts as a Gymnasium environment, in which money cannot be created."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from execution.kalshi.actions import (
    ACTIONS,
    POSITION_SIZES,
    LimitOrderActionSpace,
    PriceStyle,
    decode_action,
)
from execution.kalshi.admission import CASH_BUFFER
from execution.kalshi.fees import FeeRules
from execution.kalshi.masks import masks
from execution.kalshi.observation import LARGEST, blank, features_of, observe, value
from execution.kalshi.records import (
    BUY_NO,
    BUY_YES,
    DOLLAR,
    FILL,
    MARKET,
    ORDER,
    SLOTS,
    WHOLE,
    terms_of,
)
from execution.kalshi.records import (
    TICK as TICK_RECORD,
)
from foundation.arrays import Mask, Records
from foundation.errors import InputError
from marketsimulator.kalshi.kernel import step
from marketsimulator.kalshi.sessions import TICK, checked_session, tape_of
from marketsimulator.kalshi.synthetic import SyntheticMarket, synthetic_session
from sizing.position_limits import PositionLimits

Reward = Literal["value", "log_wealth"]
Floats = npt.NDArray[np.float32]
CENTS = 100
LIFE = 20  # steps that an order waits


class MarketAgnosticKalshiEnv(gymnasium.Env[Floats, np.int64]):
    """One market until it settles: 25 actions, exact money, no look ahead.

    A step k shows rows up to k of its session and lets its order meet row k + 1. The last step
    settles the market. A reward in USD is the change of cash and position at the middle of the
    quote, after fees, so that rewards add up to what the session earned; `log_wealth` is the
    change of the logarithm of that.

    session: [T, F] floats as `sessions` describes them; none plays another synthetic one in each
        episode.
    market: of the synthetic sessions; none has no edge.
    starting_cash: USD, in whole cents.
    price_style, position_sizes, fixed_size, limits, cash_buffer, fees: of the orders, as
        `LimitOrderActionSpace` has them.
    life: steps that an order waits.
    size_features: whether the observation tells of sizes.
    reward: `value` or `log_wealth`.

    Raises
    ------
    InputError
        for settings or a session that cannot be.
    """

    def __init__(
        self,
        session: npt.ArrayLike | None = None,
        *,
        market: SyntheticMarket | None = None,
        starting_cash: float = 1000.0,
        price_style: PriceStyle | Mapping[str, PriceStyle] = "aggressive",
        position_sizes: tuple[int, ...] = POSITION_SIZES,
        fixed_size: int | None = None,
        limits: PositionLimits | None = None,
        cash_buffer: float = float(CASH_BUFFER),
        fees: FeeRules | None = None,
        life: int = LIFE,
        size_features: bool = True,
        reward: Reward = "value",
    ) -> None:
        if reward not in get_args(Reward):
            raise InputError(f"reward: {reward!r} is none of {', '.join(get_args(Reward))}")
        if life < 1:
            raise InputError(f"life: {life} is below 1")
        self.space = LimitOrderActionSpace(
            position_sizes=position_sizes,
            fixed_size=fixed_size,
            price_style=price_style,
            limits=limits or PositionLimits(),
            cash_buffer=Decimal(str(cash_buffer)),
            fees=fees or FeeRules(),
        )
        self._start = _whole_cents(starting_cash)
        self._session = None if session is None else tape_of(checked_session(session))
        self._synthetic = market or SyntheticMarket()
        self._terms = terms_of(self.space, life, Decimal(str(TICK)))[0]
        self._size_features = size_features
        self._reward = reward
        self._tape: Records = np.zeros(0, TICK_RECORD)
        self._markets = np.zeros(1, MARKET)
        self._market = self._markets[0]
        self._orders = np.zeros(SLOTS, ORDER)
        self._fills = np.zeros(SLOTS, FILL)
        self.action_space = self.space.get_gym_space()
        shape = (len(features_of(sizes=size_features)),)
        self.observation_space = Box(-LARGEST, LARGEST, shape, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin another episode; the same seed begins the same one, whatever came before."""
        super().reset(seed=seed)
        if self._session is not None:
            self._tape = self._session
        else:
            number = int(self.np_random.integers(2**62))
            self._tape = tape_of(synthetic_session(number, self._synthetic))
        self._markets[:] = 0
        self._orders[:] = 0
        self._market["rows"] = len(self._tape)
        self._market["cash"] = self._market["began"] = self._start
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Send the order of an action, and show the next tick.

        Raises
        ------
        ValueError
            for a code outside 0 … 24, and after the last step.
        """
        code = int(action)
        decode_action(code)
        if self._market["row"] >= len(self._tape) - 1:
            raise ValueError("step: the market has settled; reset begins another episode")
        before = self._worth()
        step(self._market, self._orders, self._fills, self._tape, self._terms, code)
        after = self._worth()
        settled = bool(self._market["row"] == len(self._tape) - 1)
        reward = after - before if self._reward == "value" else math.log(after / before)
        return self._observation(), reward, settled, False, self._info()

    def action_masks(self) -> Mask:
        """Which actions may be sent, bool [25]: HOLD always, the reserved ones never."""
        allowed = np.zeros(ACTIONS, dtype=bool)
        tick = self._tape[self._market["row"]]
        masks(self._market, self._orders, tick, self._terms, allowed)
        return allowed

    @property
    def quote(self) -> tuple[float, float]:
        """The YES bid and the YES ask that are shown, USD."""
        tick = self._tape[self._market["row"]]
        return int(tick["bid"]) / WHOLE, int(tick["ask"]) / WHOLE

    def _worth(self) -> float:
        return float(value(self._market, self._tape[self._market["row"]]))

    def _observation(self) -> Floats:
        seen = blank(sizes=self._size_features)
        observe(self._market, self._orders, self._tape, self._terms, self._size_features, seen)
        return seen

    def _info(self) -> dict[str, Any]:
        market = self._market
        return {
            "cash": int(market["cash"]) / DOLLAR,
            "yes": int(market["yes"]),
            "no": int(market["no"]),
            "fills": [_fill(row) for row in self._fills[: int(market["fills"])]],
            "quote": self.quote,
            "last_order_size": int(market["sent"]),
        }


def _fill(row: Any) -> dict[str, Any]:
    """A fill in words; price in USD of its side, fee in USD net of the rebate."""
    intent = int(row["intent"])
    return {
        "action": "BUY" if intent in (BUY_YES, BUY_NO) else "SELL",
        "side": "YES" if intent <= BUY_YES + 1 else "NO",
        "price": int(row["price"]) / WHOLE,
        "count": int(row["count"]),
        "maker": bool(row["maker"]),
        "order_id": f"{int(row['number'])}",
        "fee": int(row["fee"]) / DOLLAR,
    }


def _whole_cents(usd: float) -> int:
    """An amount in millionths.

    Raises
    ------
    InputError
        for one that is not above 0, or no whole number of cents.
    """
    cents = round(usd * CENTS) if math.isfinite(usd) else 0
    if cents <= 0 or abs(cents - usd * CENTS) > 1e-6:
        raise InputError(f"starting_cash: ${usd} is no number of whole cents above 0")
    return cents * (DOLLAR // CENTS)
