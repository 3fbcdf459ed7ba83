"""A market of event contracts as a Gymnasium environment, in which money cannot be created."""

from __future__ import annotations

from operator import index
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from event_contracts.simulation.vector import Floats, VectorKalshiEnv
from event_contracts.trading.actions import decode_action
from event_contracts.trading.records import BUY_NO, BUY_YES, DOLLAR, WHOLE
from foundation.arrays import Mask


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
    ValueError
        in every method but `reset`, before the first one.
    """

    def __init__(self, session: npt.ArrayLike | None = None, **settings: Any) -> None:
        self._one = VectorKalshiEnv(1, None if session is None else [session], **settings)
        self.settings = self._one.settings
        self.space = self.settings.space()
        self._market = self._one.markets[0]
        self._orders = self._one.orders[0]
        self.action_space = self._one.single_action_space
        self.observation_space = self._one.single_observation_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin another episode; the same seed begins the same one, whatever came before."""
        super().reset(seed=seed)
        self._one.generators = [self.np_random]
        seen, _ = self._one.reset()
        return seen[0], self._info()

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
        self._refuse_unbegun()
        if self._market["row"] == self._market["rows"] - 1:
            raise ValueError("step: the market has settled; reset begins another episode")
        [reward], [settled] = self._one.advance(np.array([code]))
        return self._one.seen[0].copy(), float(reward), bool(settled), False, self._info()

    def action_masks(self) -> Mask:
        """Which actions may be sent, bool [25]: HOLD always, the reserved ones never."""
        self._refuse_unbegun()
        allowed: Mask = self._one.action_masks()[0]
        return allowed

    @property
    def quote(self) -> tuple[float, float]:
        """The YES bid and the YES ask that are shown, USD."""
        self._refuse_unbegun()
        tick = self._one.tapes[0, self._market["row"]]
        return int(tick["bid"]) / WHOLE, int(tick["ask"]) / WHOLE

    def _refuse_unbegun(self) -> None:
        if not self._one.generators:
            raise ValueError("reset begins the first episode; nothing is shown before it")

    def _info(self) -> dict[str, Any]:
        market = self._market
        return {
            "cash": int(market["cash"]) / DOLLAR,
            "yes": int(market["yes"]),
            "no": int(market["no"]),
            "fills": [_fill(row) for row in self._one.fills[0, : int(market["fills"])]],
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
