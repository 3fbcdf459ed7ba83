"""Policies that choose among permitted actions: hold, random, Kelly, a trained network.

A checkpoint is one safetensors file, which holds numbers and no code. It contains the weights of
two small networks over the same features: one chooses actions, the other estimates future rewards.
JSON in the file's header describes their training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open

from event_contracts.trading.actions import (
    ACTION_COUNT,
    INTENTS,
    POSITION_SIZES,
    LimitOrderActionSpace,
    OrderSettings,
    encode_action,
    expand_price_styles,
)
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.observation import FEATURES
from event_contracts.trading.rules import ORDER_RULES_VERSION
from foundation.arrays import Array, Mask
from foundation.errors import InputError, to_one_line
from sizing.kelly import binary_kelly

Observations = npt.NDArray[np.float32]
ActionCodes = npt.NDArray[np.int64]

_SIZE_COUNT = len(POSITION_SIZES)
_FEATURE_INDICES = {name: place for place, name in enumerate(FEATURES)}
POLICY_LAYERS_PREFIX = "mlp_extractor.policy_net."
ACTION_LAYER_PREFIX = "action_net."
CHECKPOINT_KEY = "kalshi"  # key of the header
RESUMED_FROM_KEY = "resumed_from"  # key of the earlier run's settings in those of a resumed run
Weights = Mapping[str, np.ndarray[Any, Any]]


class Policy(Protocol):
    """Interface of a policy that chooses a permitted action for each of N markets."""

    @property
    def name(self) -> str:
        """Return the policy's name in results."""

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        """Return the code of a permitted action for each market [N].

        observations: [N, F], the features of `event_contracts.trading.observation`.
        allowed: mask of permitted actions, bool [N, 25].
        """


class HoldPolicy:
    """Policy that always chooses HOLD."""

    name = "nothing"

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        return np.zeros(len(observations), np.int64)


class RandomPolicy:
    """Policy that draws from the permitted actions with equal probability.

    The choice for a market depends on the seed, on the market's row and on the number of calls, but
    not on the number of markets.

    seed: non-negative integer.
    """

    name = "random"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = 0

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        draws = np.random.default_rng([self._seed, self._calls]).random(len(allowed))
        self._calls += 1
        counts = allowed.cumsum(axis=1)
        wanted = np.floor(draws * counts[:, -1])
        return np.asarray((counts > wanted[:, None]).argmax(axis=1), np.int64)


class _KellyBounds(NamedTuple):
    """Kelly bounds for one side, YES or NO, in N markets.

    buy_intent: the intent that buys the side; the next intent sells it.
    held_counts: contracts [N].
    target_share: Kelly share of the account to hold in this side, at the cost of a purchase [N].
    max_counts: contracts up to which buying is worth its costs, within the limits [N].
    min_counts: contracts down to which selling is worth its costs [N]; without a bid the whole
        position, so that nothing is sold.
    """

    buy_intent: int
    held_counts: Array
    target_share: Array
    max_counts: Array
    min_counts: Array


@dataclass(frozen=True, slots=True)
class BinaryKellyPolicy:
    """Policy that trades towards the Kelly position implied by the estimate, after costs.

    A purchase of YES at price a costs c = a + rate · a · (1 - a). A sale at b yields s = b - rate ·
    b · (1 - b). With cash C and h contracts held, buying pays up to the position fraction · f*(p,
    c) · (C + h·c) / c, within the limits. Selling pays down to fraction · f*(p, s) · (C + h·s) / s,
    which is larger. Between the two, no trade is worth its costs. NO is the mirror image. The size
    is the largest permitted one within the wanted position; resting orders count as filled. The
    formula of f* is `sizing.kelly.binary_kelly`.

    action_space: sizes, limits, price styles and fees of the orders.
    starting_cash: USD by which the feature `cash` is scaled.
    kelly_fraction: fraction of full Kelly, above 0.
    """

    action_space: LimitOrderActionSpace = field(default_factory=LimitOrderActionSpace)
    starting_cash: float = 1000.0
    kelly_fraction: float = 0.5
    name: str = "kelly"

    def __post_init__(self) -> None:
        if not 0 < self.kelly_fraction < np.inf:
            raise InputError(f"kelly_fraction: {self.kelly_fraction} must be above 0 and finite")
        if not 0 < self.starting_cash < np.inf:
            raise InputError(f"starting_cash: {self.starting_cash} must be above 0 and finite")

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        """Return action codes [N].

        If a sale of the position and a purchase of the other side are both due, the sale is chosen.
        """
        columns = {
            name: observations[:, place].astype(np.float64)
            for name, place in _FEATURE_INDICES.items()
        }
        contracts = float(self.action_space.limits.contracts)
        held = np.round(columns["position"] * contracts)
        buying = np.round(columns["bids"] * contracts)
        selling = np.round(columns["offers"] * contracts)
        cash = columns["cash"] * self.starting_cash
        chance, bid, ask = (columns[name] for name in ("estimate", "bid", "ask"))
        yes = self._compute_bounds(1, chance, bid, ask, np.maximum(held, 0.0), cash)
        no = self._compute_bounds(
            3, 1.0 - chance, 1.0 - ask, 1.0 - bid, np.maximum(-held, 0.0), cash
        )
        # If orders rest at a price inside the spread, both sides can be worth it.
        better = yes.target_share >= no.target_share
        codes = np.zeros(len(observations), np.int64)
        for side, chosen in ((yes, better), (no, ~better)):
            wanted = side.max_counts - side.held_counts - buying
            wanted[~chosen | (selling > 0)] = 0.0
            codes += self._choose_codes(side.buy_intent, wanted, allowed)
        for side in (yes, no):
            sale = self._choose_codes(
                side.buy_intent + 1, side.held_counts - side.min_counts - selling, allowed
            )
            codes = np.where(sale > 0, sale, codes)
        return codes

    def _compute_bounds(
        self, buy: int, chance: Array, bid: Array, ask: Array, held: Array, cash: Array
    ) -> _KellyBounds:
        """Return the Kelly bounds of a side.

        buy: intent that buys the side.
        chance: probability that the side wins [N].
        bid, ask: best prices of the side, USD [N].
        held: contracts held of the side [N].
        cash: USD [N].
        """
        price, rate = self._price_and_fee_rate(buy, bid, ask)
        cost = price + rate * price * (1.0 - price)
        share = np.where(ask < 1.0, binary_kelly(chance, cost, self.kelly_fraction), 0.0)
        limits = self.action_space.limits
        worth = np.minimum(float(limits.value), float(limits.share) * (cash + held * price))
        within = np.minimum(worth / price, float(limits.contracts))
        most = np.minimum(share * (cash + held * cost) / cost, within)
        price, rate = self._price_and_fee_rate(buy + 1, bid, ask)
        proceeds = price - rate * price * (1.0 - price)
        kept = binary_kelly(chance, proceeds, self.kelly_fraction)
        least = np.where(bid > 0.0, kept * (cash + held * proceeds) / proceeds, held)
        return _KellyBounds(buy, held, share, most, least)

    def _price_and_fee_rate(self, intent: int, bid: Array, ask: Array) -> tuple[Array, float]:
        """Return the price [N] at which an intent's order trades, and its fee rate, by style."""
        fees = self.action_space.fees
        style = self.action_space.price_style_by_intent[INTENTS[intent]]
        if style == "mid":
            price = (bid + ask) / 2
        else:
            takes = style == "aggressive"
            price = ask if INTENTS[intent].startswith("BUY") == takes else bid
        # An empty side has no price: the caller ignores results from it.
        priced = np.clip(price, 1e-4, 1.0 - 1e-4)
        return priced, float(fees.taker if style == "aggressive" else fees.maker)

    def _choose_codes(self, intent: int, wanted: Array, allowed: Mask) -> ActionCodes:
        """Return action codes [N] for an intent: the largest permitted size up to `wanted`.

        The code is 0, HOLD, if no size fits.
        """
        first = encode_action(intent, 0)
        sizes = np.array(self.action_space.position_sizes)
        # A count is whole but for the rounding of 32-bit features.
        fits = allowed[:, first : first + _SIZE_COUNT] & (sizes <= wanted[:, None] + 1e-6)
        largest = _SIZE_COUNT - 1 - fits[:, ::-1].argmax(axis=1)
        return np.where(fits.any(axis=1), first + largest, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """Description of a checkpoint's training, stored in the header of its file.

    position_sizes: contracts of the five sizes.
    fixed_size: the only permitted size; None permits all.
    features: names of the network's features.
    steps: number of steps so far, over all markets.
    settings: settings of the training, as given.
    order_rules: version of the order rules in training; 1 if the header does not state it.
    """

    position_sizes: tuple[int, ...] = POSITION_SIZES
    fixed_size: int | None = None
    features: tuple[str, ...] = FEATURES
    steps: int = 0
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    order_rules: int = 1

    def incompatibility_reason(self, orders: OrderSettings) -> str | None:
        """Return the reason why the checkpoint does not fit order settings, or None if it does.

        A header without `life` or `price_style` fits every value of that setting.
        """
        given = self.settings.get("episode")
        episode = given if isinstance(given, Mapping) else {}
        space = orders.build_action_space(FeeRules())
        style = episode.get("price_style")
        for name, trained, needed in (
            ("life", episode.get("life", orders.life), orders.life),
            (
                "price_style",
                space.price_style_by_intent if style is None else expand_price_styles(style),
                space.price_style_by_intent,
            ),
            ("position_sizes", self.position_sizes, space.position_sizes),
            ("fixed_size", self.fixed_size, space.fixed_size),
        ):
            if trained != needed:
                value = style if name == "price_style" else trained
                shown = value if isinstance(value, str) else json.dumps(value, default=str)
                return (
                    f"the checkpoint was trained with another value of {name}; set"
                    f" {name}={to_one_line(shown)}, or train again"
                )
        return None

    @property
    def training_run_settings(self) -> tuple[Mapping[str, Any], ...]:
        """Return the settings of every training run behind the checkpoint, the last one first."""
        found = []
        settings: Any = self.settings
        while isinstance(settings, Mapping):
            found.append(settings)
            settings = settings.get(RESUMED_FROM_KEY)
        return tuple(found)


@dataclass(frozen=True, eq=False, slots=True)
class NetworkPolicy:
    """Policy that chooses the permitted action with the highest output of a tanh network.

    checkpoint_info: description of the training.
    layers: weights [out, in] and biases [out] of each layer; the last has 25 outputs.
    """

    name: str
    checkpoint_info: CheckpointInfo
    layers: tuple[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]], ...] = field(repr=False)

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        values = observations
        for weights, offsets in self.layers[:-1]:
            values = np.tanh(values @ weights.T + offsets)
        weights, offsets = self.layers[-1]
        preferred = np.where(allowed, values @ weights.T + offsets, -np.inf)
        return np.asarray(preferred.argmax(axis=1), np.int64)


def load_network_policy(path: Path | str) -> NetworkPolicy:
    weights, about = read_checkpoint(path)
    layers = tuple(
        (weights[name], weights[name.replace("weight", "bias")]) for name in _layer_names(weights)
    )
    return NetworkPolicy(Path(path).stem, about, layers)


def read_checkpoint(path: Path | str) -> tuple[Weights, CheckpointInfo]:
    """Read a checkpoint; return its tensors by name, and the description of its training.

    Raises `InputError` for a file that is no checkpoint, or one with other actions or features.
    """
    path = Path(path)
    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable checkpoint: {str(error).splitlines()[0]}"
        ) from None
    choice = weights.get(f"{ACTION_LAYER_PREFIX}weight")
    if choice is None or choice.ndim != 2:
        raise InputError(
            f"{path}: not a checkpoint of a policy: {ACTION_LAYER_PREFIX}weight is missing"
        )
    if len(choice) != ACTION_COUNT:
        raise InputError(
            f"{path}: the checkpoint has {len(choice)} actions, but this release has"
            f" {ACTION_COUNT}; train it again"
        )
    try:
        about = TypeAdapter(CheckpointInfo).validate_json(header[CHECKPOINT_KEY], extra="forbid")
    except (KeyError, ValueError):
        raise InputError(
            f"{path}: the checkpoint has no valid description of its training; train it again"
        ) from None
    if about.order_rules != ORDER_RULES_VERSION:
        raise InputError(
            f"{path}: the checkpoint was trained with version {about.order_rules} of the order"
            f" rules, but this release has version {ORDER_RULES_VERSION}; train it again"
        )
    _check_layers(path, weights, about)
    return weights, about


def _check_layers(path: Path, weights: Weights, about: CheckpointInfo) -> None:
    """Raise `InputError` for layers whose shapes do not match each other or the features."""
    if about.features != FEATURES:
        raise InputError(
            f"{path}: the checkpoint was trained on the features of another release; train it again"
        )
    width = len(about.features)
    for name in _layer_names(weights):
        layer = weights.get(name, np.zeros(0))
        offsets = weights.get(name.replace("weight", "bias"), np.zeros(()))
        if layer.ndim != 2 or layer.shape[1] != width:
            why = f"has shape {list(layer.shape)}; expected two dimensions, the second of {width}"
        elif layer.dtype != np.float32:
            why = f"has type {layer.dtype}; expected float32"
        elif offsets.shape != layer.shape[:1]:
            why = f"has no bias of {len(layer)} numbers"
        else:
            why = ""
        if why:
            raise InputError(f"{path}: {name} {why}; train the checkpoint again")
        if not (np.isfinite(layer).all() and np.isfinite(offsets).all()):
            raise InputError(f"{path}: {name} contains numbers that are not finite")
        width = len(layer)


def _layer_names(weights: Weights) -> list[str]:
    """Return the names that the policy network's weights should have, in the order of the layers.

    The names count up from 0 in steps of 2, because a hyperbolic tangent, which has no weights,
    follows each hidden layer. A name may be missing in the file.
    """
    count = sum(
        name.startswith(POLICY_LAYERS_PREFIX) and name.endswith(".weight") for name in weights
    )
    return [
        *(f"{POLICY_LAYERS_PREFIX}{2 * k}.weight" for k in range(count)),
        f"{ACTION_LAYER_PREFIX}weight",
    ]
