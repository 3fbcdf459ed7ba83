"""Gymnasium environments of event-contract markets, with exact accounting of money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from event_contracts.simulation.kernel import reset_depth, step_market
from event_contracts.simulation.sessions import session_to_tick_records, validate_session
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import (
    build_sessions,
    draw_from_generators,
    spawn_session_generator,
)
from event_contracts.trading.actions import ACTION_COUNT, INTENT_SIDES, decode_action
from event_contracts.trading.observation import (
    FEATURES,
    MAX_ABS_FEATURE,
    account_value,
    write_observation,
)
from event_contracts.trading.records import (
    FILL_DTYPE,
    MARKET_DTYPE,
    MAX_FILLS_PER_STEP,
    MAX_RESTING_ORDERS,
    MICROS_PER_DOLLAR,
    ORDER_DTYPE,
    PRICE_UNITS_PER_DOLLAR,
    TICK_DTYPE,
)
from event_contracts.trading.rules import ScaledOrderRules
from foundation.arrays import Array, Mask, StructuredArray
from foundation.compiled import compiled, without_refcount
from foundation.errors import InputError
from foundation.settings import with_changes

Floats = npt.NDArray[np.float32]
ActionCodes = npt.NDArray[np.int64]


class VectorKalshiEnv(VectorEnv[Floats, ActionCodes, Any]):
    """Vector environment of N markets; a market that settles starts another episode at once.

    Market i plays exactly like a `MarketAgnosticKalshiEnv` with the seed of the first reset plus i.

    markets, orders, fills: records of `event_contracts.trading.records` after a step.
    tapes: tick records of each market's current session [N, T].
    equity: cash plus positions at mid quote, USD [N].
    observations: features [N, F].
    generators: generators of the next session of each market; empty before the first reset.

    count: number of markets, 1 or more.
    sessions: sessions [T, F] from which each episode draws one; None plays synthetic ones.
    settings: fields of `EpisodeSettings`, such as `starting_cash` and `reward`.
    """

    def __init__(
        self, count: int, sessions: Sequence[npt.ArrayLike] | None = None, **settings: Any
    ) -> None:
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise InputError(f"count: expected an integer of 1 or more, got {count!r}")
        self.num_envs = int(count)
        self.settings = with_changes(EpisodeSettings(), settings)
        market = self.settings.market
        longest = market.steps + 1
        self._sessions: list[StructuredArray] | None = None
        if sessions is not None:
            self._sessions = [
                session_to_tick_records(validate_session(each, market.tick)) for each in sessions
            ]
            if not self._sessions:
                raise InputError("sessions is empty; give at least one session")
            longest = max(len(tape) for tape in self._sessions)
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_action_space = self.settings.default_action_space().get_gym_space()
        width = len(FEATURES)
        self.single_observation_space = Box(-MAX_ABS_FEATURE, MAX_ABS_FEATURE, (width,), np.float32)
        self.action_space = batch_space(self.single_action_space, count)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.markets = np.zeros(count, MARKET_DTYPE)
        self.orders = np.zeros((count, MAX_RESTING_ORDERS), ORDER_DTYPE)
        self.fills = np.zeros((count, MAX_FILLS_PER_STEP), FILL_DTYPE)
        self.equity = np.zeros(count)
        self._terms = self.settings.build_scaled_order_rules()
        self.tapes = np.zeros((count, longest), TICK_DTYPE)
        self.observations = np.zeros((count, width), np.float32)
        self._allowed = np.zeros((count, ACTION_COUNT), dtype=bool)
        self.generators: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start an episode in every market.

        seed: seed of market 0, with the next integers for the others; or one seed for each market.
        """
        if seed is not None or not self.generators:
            if seed is None:
                seed = int(np.random.SeedSequence().generate_state(1)[0])
            seeds = seed if isinstance(seed, Sequence) else range(seed, seed + self.num_envs)
            if len(seeds) != self.num_envs:
                raise InputError(
                    f"seed: {len(seeds)} seeds for {self.num_envs} markets; give one for each"
                )
            self.generators = [np.random.default_rng(each) for each in seeds]
        everything = np.arange(self.num_envs)
        self._begin_episodes(everything)
        return self.observations.copy(), {}

    def step(self, actions: npt.ArrayLike) -> tuple[Floats, Array, Mask, Mask, dict[str, Any]]:
        """Send the orders of action codes [N], and move every market to its next tick.

        If K markets settle, the info has their indices `settled` [K], last observations `final_obs`
        [K, F] and records `final_markets` [K].
        """
        given = np.asarray(actions)
        if given.dtype.kind not in "iu":
            raise ValueError(f"actions: expected integers, got {given.dtype}")
        codes = given.astype(np.int64)
        if codes.shape != (self.num_envs,) or codes.min() < 0 or codes.max() >= ACTION_COUNT:
            raise ValueError(
                f"actions: expected {self.num_envs} codes from 0 to {ACTION_COUNT - 1}"
            )
        if not self.generators:
            raise ValueError("step() was called before reset(); call reset() first")
        rewards, terminated = self.step_without_reset(codes)
        info: dict[str, Any] = {}
        settled = np.flatnonzero(terminated)
        if len(settled):
            info = {
                "settled": settled,
                "final_obs": self.observations[settled],
                "final_markets": self.markets[settled],
            }
            self._begin_episodes(settled)
        return (
            self.observations.copy(),
            rewards,
            terminated,
            np.zeros(self.num_envs, dtype=bool),
            info,
        )

    def step_without_reset(self, codes: ActionCodes) -> tuple[Array, Mask]:
        """Step every market without validation or reset; return rewards and settlement flags, [N].

        codes: action codes [N].
        """
        rewards = np.empty(self.num_envs)
        terminated = np.empty(self.num_envs, dtype=bool)
        _step_markets(
            self.markets,
            self.orders,
            self.fills,
            self.tapes,
            self._terms,
            codes,
            self.settings.reward == "log_wealth",
            rewards,
            terminated,
            self.equity,
            self.observations,
            self._allowed,
        )
        return rewards, terminated

    def action_masks(self) -> Mask:
        """Return the mask of permitted actions, bool [N, 25]."""
        if not self.generators:
            raise ValueError("action_masks() was called before reset(); call reset() first")
        return self._allowed.copy()

    def _begin_episodes(self, which: npt.NDArray[np.intp]) -> None:
        tapes = self._draw_tick_records(which)
        self.markets[which] = 0
        self.orders[which] = 0
        for i, tape in zip(which, tapes, strict=True):
            self.tapes[i, : len(tape)] = tape
            self.markets["rows"][i] = len(tape)
        self.markets["cash"][which] = self.markets["starting_equity"][which] = (
            self.settings.starting_cash_micros
        )
        self.equity[which] = self.settings.starting_cash_micros / MICROS_PER_DOLLAR
        _write_first_observations(
            which,
            self.markets,
            self.orders,
            self.tapes,
            self._terms,
            self.observations,
            self._allowed,
        )

    def _draw_tick_records(
        self, which: npt.NDArray[np.intp]
    ) -> StructuredArray | list[StructuredArray]:
        generators = [self.generators[i] for i in which]
        if self._sessions is not None:
            return [self._sessions[rng.integers(len(self._sessions))] for rng in generators]
        market = self.settings.market
        drawn = [spawn_session_generator(rng) for rng in generators]
        return session_to_tick_records(build_sessions(draw_from_generators(drawn, market), market))


@compiled
def _step_markets(
    markets: StructuredArray,
    orders: StructuredArray,
    fills: StructuredArray,
    tapes: StructuredArray,
    terms: ScaledOrderRules,
    actions: ActionCodes,
    is_log: bool,
    rewards: Array,
    terminated: Mask,
    equity: Array,
    observations: Floats,
    allowed: Mask,
) -> None:
    for i in range(len(markets)):
        market = markets[i]
        step_market(
            market,
            without_refcount(orders[i]),
            without_refcount(fills[i]),
            without_refcount(tapes[i]),
            terms,
            actions[i],
        )
        tick = tapes[i, market.row]
        after = account_value(market, tick)
        rewards[i] = math.log(after / equity[i]) if is_log else after - equity[i]
        equity[i] = after
        terminated[i] = market.row == market.rows - 1
        write_observation(
            market,
            without_refcount(orders[i]),
            without_refcount(tapes[i]),
            terms,
            without_refcount(observations[i]),
            without_refcount(allowed[i]),
        )


@compiled
def _write_first_observations(
    which: npt.NDArray[np.intp],
    markets: StructuredArray,
    orders: StructuredArray,
    tapes: StructuredArray,
    terms: ScaledOrderRules,
    observations: Floats,
    allowed: Mask,
) -> None:
    for i in which:
        reset_depth(markets[i], tapes[i, 0])
        write_observation(markets[i], orders[i], tapes[i], terms, observations[i], allowed[i])


class MarketAgnosticKalshiEnv(gymnasium.Env[Floats, np.int64]):
    """Environment of one market until it settles, with 25 actions and without look-ahead.

    Step k shows rows up to k of its session. Its order trades at once with the book of row k, and
    its resting remainder can fill from row k + 1 on. The last step settles the market. Rewards in
    USD sum to the profit of the session.

    session: array [T, F] (`event_contracts.simulation.sessions`); None plays another synthetic
        session in each episode.
    settings: fields of `EpisodeSettings`, such as `starting_cash` and `reward`.

    Raises `InputError` for invalid settings or an invalid session. Every method but `reset` raises
    `ValueError` before the first reset.
    """

    def __init__(self, session: npt.ArrayLike | None = None, **settings: Any) -> None:
        self._one = VectorKalshiEnv(1, None if session is None else [session], **settings)
        self.settings = self._one.settings
        self.space = self.settings.default_action_space()
        self._market = self._one.markets[0]
        self._orders = self._one.orders[0]
        self.action_space = self._one.single_action_space
        self.observation_space = self._one.single_observation_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Start another episode.

        seed: seed that determines the episode, independent of earlier ones; None: the next episode.
        """
        super().reset(seed=seed)
        self._one.generators = [self.np_random]
        observations, _ = self._one.reset()
        return observations[0], self._build_info()

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Send the order of an action, and move the market to its next tick.

        Raises `ValueError` for a code outside 0 … 24, before the first reset, and after the last
        step.
        """
        try:
            code = index(action)
        except TypeError:
            raise ValueError(f"action: expected an integer, got {action!r}") from None
        decode_action(code)
        self._require_reset()
        if self._market["row"] == self._market["rows"] - 1:
            raise ValueError(
                "step(): the market has settled; call reset() to start another episode"
            )
        [reward], [settled] = self._one.step_without_reset(np.array([code]))
        return (
            self._one.observations[0].copy(),
            float(reward),
            bool(settled),
            False,
            self._build_info(),
        )

    def action_masks(self) -> Mask:
        allowed: Mask = self._one.action_masks()[0]
        return allowed

    @property
    def quote(self) -> tuple[float, float]:
        """Return the current YES bid and YES ask, USD."""
        self._require_reset()
        tick = self._one.tapes[0, self._market["row"]]
        return int(tick["bid"]) / PRICE_UNITS_PER_DOLLAR, int(tick["ask"]) / PRICE_UNITS_PER_DOLLAR

    def _require_reset(self) -> None:
        if not self._one.generators:
            raise ValueError("the environment has no episode yet; call reset() first")

    def _build_info(self) -> dict[str, Any]:
        market = self._market
        return {
            "cash": int(market["cash"]) / MICROS_PER_DOLLAR,
            "yes": int(market["yes"]),
            "no": int(market["no"]),
            "fills": [_fill_to_dict(row) for row in self._one.fills[0, : int(market["fills"])]],
            "quote": self.quote,
            "last_order_size": int(market["sent"]),
        }


def _fill_to_dict(row: Any) -> dict[str, Any]:
    """Convert a fill record to a dictionary: price in USD of its side, fee in USD after rebate."""
    action, side = INTENT_SIDES[int(row["intent"]) - 1]
    return {
        "action": action,
        "side": side,
        "price": int(row["price"]) / PRICE_UNITS_PER_DOLLAR,
        "count": int(row["count"]),
        "maker": bool(row["maker"]),
        "order_id": f"{int(row['number'])}",
        "fee": int(row["fee"]) / MICROS_PER_DOLLAR,
    }
