"""A trained network as a policy, read from a file that holds numbers and no code.

A checkpoint is one safetensors file: the weights of two small networks over the same features (one
chooses, the other one values) and, in its header, JSON that says what they were trained for.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from event_contracts.trading.actions import ACTIONS, POSITION_SIZES, OrderSettings, styles_of
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.observation import features_of
from event_contracts.trading.policies import Codes, Observations
from foundation.arrays import Mask
from foundation.errors import InputError, in_one_line

HIDDEN = "mlp_extractor.policy_net."
CHOICE = "action_net."
ABOUT = "kalshi"  # key of the header
EARLIER = "resumed_from"  # in the settings: those of the run that was gone on from
Weights = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class About:
    """What a checkpoint was trained for.

    position_sizes: contracts of the five sizes.
    fixed_size: the one that was allowed; none for all.
    features: what the network sees, by name.
    steps: so far, over all markets.
    seed: of the training.
    settings: of the training, as they were given.
    """

    position_sizes: tuple[int, ...] = POSITION_SIZES
    fixed_size: int | None = None
    features: tuple[str, ...] = features_of(sizes=True)
    steps: int = 0
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "position_sizes", tuple(self.position_sizes))
        object.__setattr__(self, "features", tuple(self.features))
        whole = all(isinstance(number, int) for number in (self.steps, self.seed))
        if not (whole and isinstance(self.settings, Mapping)):
            raise ValueError("steps and seed are whole numbers, settings have names")

    def other_orders(self, orders: OrderSettings) -> str | None:
        """Why it fits no such orders, in words; nothing where it does.

        A header that says neither life nor price style fits all of them.
        """
        given = self.settings.get("episode")
        episode = given if isinstance(given, Mapping) else {}
        space = orders.space_at(FeeRules())
        style = episode.get("price_style")
        for name, trained, needed in (
            ("life", episode.get("life", orders.life), orders.life),
            ("price_style", space.styles if style is None else styles_of(style), space.styles),
            ("position_sizes", self.position_sizes, space.position_sizes),
            ("fixed_size", self.fixed_size, space.fixed_size),
        ):
            if trained != needed:
                said = style if name == "price_style" else trained
                shown = said if isinstance(said, str) else json.dumps(said, default=str)
                return f"trained with {name}={in_one_line(shown)}; set it to that, or train anew"
        return None

    @property
    def runs(self) -> tuple[Mapping[str, Any], ...]:
        """The settings of every run that it learned in, the last one first."""
        found = []
        settings: Any = self.settings
        while isinstance(settings, Mapping):
            found.append(settings)
            settings = settings.get(EARLIER)
        return tuple(found)


@dataclass(frozen=True, eq=False, slots=True)
class NetworkPolicy:
    """Layers of hyperbolic tangents, and the allowed action that they give most.

    name: how results call it.
    about: what it was trained for.
    layers: weights [out, in] and offsets [out], the last of them of the 25 actions.
    """

    name: str
    about: About
    layers: tuple[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]], ...] = field(repr=False)

    def actions(self, seen: Observations, allowed: Mask) -> Codes:
        """Codes [N] of the allowed actions that the network prefers."""
        values = seen
        for weights, offsets in self.layers[:-1]:
            values = np.tanh(values @ weights.T + offsets)
        weights, offsets = self.layers[-1]
        preferred = np.where(allowed, values @ weights.T + offsets, -np.inf)
        return np.asarray(preferred.argmax(axis=1), np.int64)


def load_network(path: Path | str) -> NetworkPolicy:
    """The policy of a checkpoint."""
    weights, about = read_checkpoint(path)
    layers = tuple(
        (weights[name], weights[name.replace("weight", "bias")]) for name in _layer_names(weights)
    )
    return NetworkPolicy(Path(path).stem, about, layers)


def read_checkpoint(path: Path | str) -> tuple[Weights, About]:
    """The tensors of a checkpoint by name, and what it was trained for.

    Raises `InputError` for a file that is none, and for one of another action space.
    """
    path = Path(path)
    if zipfile.is_zipfile(path):
        raise InputError(
            f"{path}: an archive of another program; this system reads checkpoints of"
            f" {ACTIONS} actions in safetensors, which it writes itself: train anew"
        )
    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no checkpoint: {str(error).splitlines()[0]}") from None
    choice = weights.get(f"{CHOICE}weight")
    if choice is None or choice.ndim != 2:
        raise InputError(f"{path}: no checkpoint of actions: {CHOICE}weight is missing")
    if len(choice) != ACTIONS:
        raise InputError(
            f"{path}: a checkpoint of {len(choice)} actions, this system has {ACTIONS}: train anew"
        )
    try:
        about = About(**json.loads(header[ABOUT]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(f"{path}: its header does not say what it was trained for") from None
    _check_layers(path, weights, about)
    return weights, about


def _check_layers(path: Path, weights: Weights, about: About) -> None:
    """Refuse layers that do not follow from one another, or see other features than there are."""
    known = (features_of(sizes=True), features_of(sizes=False))
    if about.features not in known:
        raise InputError(
            f"{path}: trained on other features than those of this version: train anew"
        )
    width = len(about.features)
    for name in _layer_names(weights):
        layer = weights.get(name, np.zeros(0))
        offsets = weights.get(name.replace("weight", "bias"))
        fits = layer.ndim == 2 and layer.shape[1] == width and layer.dtype == np.float32
        if not fits or offsets is None or offsets.shape != layer.shape[:1]:
            raise InputError(
                f"{path}: {name} has shape {list(layer.shape)}, {layer.dtype}; expected"
                f" [.., {width}], float32, with its bias"
            )
        if not (np.isfinite(layer).all() and np.isfinite(offsets).all()):
            raise InputError(f"{path}: {name} has numbers that are not finite")
        width = len(layer)


def _layer_names(weights: Weights) -> list[str]:
    """Weights of the choosing network from its features to its actions, those that are missing too.

    A hyperbolic tangent, which has no weights, stands after each hidden layer.
    """
    count = sum(name.startswith(HIDDEN) and name.endswith(".weight") for name in weights)
    return [*(f"{HIDDEN}{2 * k}.weight" for k in range(count)), f"{CHOICE}weight"]
