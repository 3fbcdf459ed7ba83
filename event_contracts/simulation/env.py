"""A market of event contracts as a Gymnasium environment, in which money cannot be created."""

from __future__ import annotations

import math
from operator import index
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from event_contracts.simulation.kernel import step
from event_contracts.simulation.sessions import checked_session, tape_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import draws_from, next_generator, sessions_from
from event_contracts.trading.actions import ACTIONS, decode_action
from event_contracts.trading.masks import masks
from event_contracts.trading.observation import LARGEST, blank, observe, value
from event_contracts.trading.records import (
    BUY_NO,
    BUY_YES,
    DOLLAR,
    FILL,
    MARKET,
    ORDER,
    SLOTS,
    TICK,
    WHOLE,
)
from foundation.arrays import Mask, Records

Floats = npt.NDArray[np.float32]


class MarketAgnosticKalshiEnv(gymnasium.Env[Floats, np.int64]):
    """One market until it settles: 25 actions, exact money, no look ahead.

    A step k shows rows up to k of its session and lets its order meet row k + 1. The last step
    settles the market. Rewards in USD add up to what the session earned.

    session: [T, F] floats as `sessions` describes them; none plays another synthetic one in each
        episode.
    settings: `starting_cash`, `reward` and the others of `EpisodeSettings`.

    Raises
    ------
    InputError
        for settings or a session that cannot be.
    """

    def __init__(self, session: npt.ArrayLike | None = None, **settings: Any) -> None:
        self.settings = EpisodeSettings(**settings)
        self.space = self.settings.space()
        tick = self.settings.market.tick
        self._session = None if session is None else tape_of(checked_session(session, tick))
        self._terms = self.settings.terms()[0]
        self._tape: Records = np.zeros(0, TICK)
        self._markets = np.zeros(1, MARKET)
        self._market = self._markets[0]
        self._orders = np.zeros(SLOTS, ORDER)
        self._fills = np.zeros(SLOTS, FILL)
        self.action_space = self.space.get_gym_space()
        self.observation_space = Box(-LARGEST, LARGEST, (len(self.settings.features),), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin another episode; the same seed begins the same one, whatever came before."""
        super().reset(seed=seed)
        if self._session is not None:
            self._tape = self._session
        else:
            market = self.settings.market
            draws = draws_from([next_generator(self.np_random)], market)
            self._tape = tape_of(sessions_from(draws, market)[0])
        self._markets[:] = 0
        self._orders[:] = 0
        self._market["rows"] = len(self._tape)
        self._market["cash"] = self._market["began"] = self.settings.cash
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Send the order of an action, and show the next tick.

        Raises
        ------
        ValueError
            for a code outside 0 … 24, before the first reset, and after the last step.
        """
        try:
            code = index(action)
        except TypeError:
            raise ValueError(f"action: {action!r} is no whole number") from None
        decode_action(code)
        before = self._worth()
        if self._market["row"] == len(self._tape) - 1:
            raise ValueError("step: the market has settled; reset begins another episode")
        step(self._market, self._orders, self._fills, self._tape, self._terms, code)
        after = self._worth()
        settled = bool(self._market["row"] == len(self._tape) - 1)
        reward = after - before if self.settings.reward == "value" else math.log(after / before)
        return self._observation(), reward, settled, False, self._info()

    def action_masks(self) -> Mask:
        """Which actions may be sent, bool [25]: HOLD always, the reserved ones never.

        Raises
        ------
        ValueError
            before the first reset.
        """
        allowed = np.zeros(ACTIONS, dtype=bool)
        tick = self._tick()
        masks(self._market, self._orders, tick, self._terms, allowed)
        return allowed

    @property
    def quote(self) -> tuple[float, float]:
        """The YES bid and the YES ask that are shown, USD.

        Raises
        ------
        ValueError
            before the first reset.
        """
        tick = self._tick()
        return int(tick["bid"]) / WHOLE, int(tick["ask"]) / WHOLE

    def _tick(self) -> Any:
        """What is shown now."""
        if not len(self._tape):
            raise ValueError("reset begins the first episode; nothing is shown before it")
        return self._tape[self._market["row"]]

    def _worth(self) -> float:
        return float(value(self._market, self._tick()))

    def _observation(self) -> Floats:
        sizes = self.settings.size_features
        seen = blank(sizes=sizes)
        observe(self._market, self._orders, self._tape, self._terms, sizes, seen)
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
