"""Proximal policy optimisation with action masks over many markets, with checkpoints.

Schulman et al. 2017, and Huang and Ontañón 2020 for the masks; initial weights, Adam's epsilon,
normalised advantages and gradient clipping as Huang et al. 2022 list them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor
from torch.nn.functional import linear

from event_contracts.simulation.settings import LearnerSettings
from event_contracts.simulation.vector import Codes, Floats, VectorKalshiEnv
from event_contracts.trading.actions import ACTION_COUNT
from event_contracts.trading.observation import FEATURES
from event_contracts.trading.policies import (
    ACTION_LAYER,
    CHECKPOINT_KEY,
    POLICY_LAYERS,
    CheckpointInfo,
    Weights,
    read_checkpoint,
)
from event_contracts.trading.rules import ORDER_RULES
from foundation.arrays import Array, Mask
from foundation.errors import InputError
from foundation.files import write_atomically

VALUING = "mlp_extractor.value_net."
VALUE = "value_net."
PARTS = ("weight", "bias")  # parameters of a layer
OPTIMIZER = "optimizer."
MAX_TRAINED_STEPS = 10**12  # over all markets and runs
MASKED_LOGIT = -1e8  # logit of a forbidden action
ERROR_WEIGHT = 0.5  # weight of the value network's error
LARGEST_GRADIENT = 0.5  # maximum norm of the gradient
PERCENT = 100
QUOTE_FEATURES = [FEATURES.index(name) for name in ("bid", "ask", "estimate")]
# Maps observations [N, F] and allowed actions [N, 25] to codes [N] and their log-likelihoods [N].
Choose = Callable[[Floats, Mask], tuple[Codes, Floats]]


class Networks:
    """Policy and value network with tanh layers over the same features.

    width: number of features.
    layers: units of each hidden layer.
    draws: random generator of the initial weights.
    vector: all parameters of both networks [P].
    """

    def __init__(self, width: int, layers: tuple[int, ...], draws: torch.Generator) -> None:
        self._shapes = _shapes(width, layers)
        self._layers = len(layers)
        self.vector = torch.zeros(sum(map(math.prod, self._shapes.values())))
        gains = {f"{ACTION_LAYER}weight": 0.01, f"{VALUE}weight": 1.0}
        for name, weights in self.named.items():
            if name.endswith("weight"):
                torch.nn.init.orthogonal_(weights, gains.get(name, math.sqrt(2)), draws)
        self.vector.requires_grad_()

    @property
    def named(self) -> dict[str, Tensor]:
        """Return views of weights [out, in] and biases [out], by their names in checkpoints."""
        shapes = self._shapes.values()
        parts = torch.split(self.vector, [math.prod(shape) for shape in shapes])
        views = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
        return dict(zip(self._shapes, views, strict=True))

    def logits(self, observations: Tensor, masked: Tensor) -> Tensor:
        """Return the logits of the actions [B, 25].

        masked: mask of forbidden actions [B, 25].
        """
        return self._output(POLICY_LAYERS, ACTION_LAYER, observations).add(
            masked, alpha=MASKED_LOGIT
        )

    def values(self, observations: Tensor) -> Tensor:
        """Return the value network's estimates of the discounted future reward [B]."""
        return self._output(VALUING, VALUE, observations)[:, 0]

    def _output(self, hidden: str, last: str, observations: Tensor) -> Tensor:
        named = self.named
        for name in (f"{hidden}{2 * k}." for k in range(self._layers)):
            observations = linear(observations, named[f"{name}weight"], named[f"{name}bias"]).tanh()
        return linear(observations, named[f"{last}weight"], named[f"{last}bias"])


def _shapes(width: int, layers: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return shapes of all weights and biases by name, in the order of checkpoints."""
    widths = (width, *layers)
    linear = {
        f"{hidden}{2 * k}.": (units, widths[k])
        for hidden in (POLICY_LAYERS, VALUING)
        for k, units in enumerate(layers)
    }
    linear |= {ACTION_LAYER: (ACTION_COUNT, layers[-1]), VALUE: (1, layers[-1])}
    return {
        f"{name}{of}": shape if of == "weight" else shape[:1]
        for name, shape in linear.items()
        for of in PARTS
    }


class TrainingBatch(NamedTuple):
    """A training batch of B steps.

    observations: features [B, F].
    masked: mask of forbidden actions [B, 25].
    codes: codes of the chosen actions [B, 1].
    likelihoods: [B], log-likelihoods of the chosen actions under the policy that chose them.
    advantages: [B], generalised advantage estimates.
    returns: [B], discounted sums of later rewards.
    """

    observations: Tensor
    masked: Tensor
    codes: Tensor
    likelihoods: Tensor
    advantages: Tensor
    returns: Tensor


def estimate_advantages(
    rewards: Floats, values: Floats, terminated: Mask, discount: float, trace: float
) -> Floats:
    """Return generalised advantage estimates [T, N] (Schulman et al. 2016).

    rewards: [T, N].
    values: state values [T + 1, N], before each step and after the last.
    terminated: [T, N], true if a step ended the episode.
    discount: discount γ of a reward one step later.
    trace: λ of the estimates.
    """
    found = np.empty_like(rewards)
    following = np.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        kept = np.where(terminated[t], np.float32(0), np.float32(discount))
        following = rewards[t] + kept * (values[t + 1] + trace * following) - values[t]
        found[t] = following
    return found


def surrogate_and_entropy(
    logits: Tensor, lessons: TrainingBatch, clip: float
) -> tuple[Tensor, Tensor]:
    """Return the mean clipped surrogate loss, and the mean entropy of the action distribution.

    logits: [B, 25].
    clip: bound on the deviation of the probability ratio from 1.
    """
    logarithms = logits.log_softmax(1)
    ratio = (logarithms.gather(1, lessons.codes)[:, 0] - lessons.likelihoods).exp()
    clipped = lessons.advantages * ratio.clamp(1 - clip, 1 + clip)
    doubt = -(logarithms.exp() * logarithms).sum(1)
    return -torch.minimum(lessons.advantages * ratio, clipped).mean(), doubt.mean()


@dataclass(eq=False, slots=True)
class Learner:
    """Trainer of the policy and value networks by proximal policy optimisation.

    about: description that checkpoints get; `save` sets its number of steps.
    draws: random generator of actions and of the order of batches.
    steps: number of steps so far, over all markets and runs.
    """

    networks: Networks
    optimizer: torch.optim.Adam
    markets: Markets
    settings: LearnerSettings
    about: CheckpointInfo
    draws: torch.Generator
    steps: int = 0

    @torch.no_grad()
    def learn(self, until: int, on_update: Callable[[int, dict[str, float]], None]) -> None:
        """Train until a total number of steps.

        until: total number of steps, over all markets and runs.
        on_update: called after each update with the steps so far and training statistics.
        """
        while self.steps < until:
            experience = self.markets.play(self._choose)
            figures = self._improve(self._lessons(experience))
            self.steps += experience.codes.size
            on_update(self.steps, self.markets.figures() | figures)

    def _choose(self, observations: Floats, allowed: Mask) -> tuple[Codes, Floats]:
        logits = self.networks.logits(torch.from_numpy(observations), torch.from_numpy(~allowed))
        chances = logits.softmax(1)
        sums = chances.cumsum(1)
        drawn = torch.rand(len(observations), 1, generator=self.draws) * sums[:, -1:]
        codes = (sums <= drawn).sum(1, keepdim=True)
        return codes[:, 0].numpy(), chances.gather(1, codes)[:, 0].log_().numpy()

    def _lessons(self, experience: Experience) -> TrainingBatch:
        everything = torch.from_numpy(experience.observations).flatten(0, 1)
        values = self.networks.values(everything).view(experience.observations.shape[:2]).numpy()
        advantages = estimate_advantages(
            experience.rewards,
            values,
            experience.terminated,
            self.settings.discount,
            self.settings.gae_lambda,
        )
        codes = torch.from_numpy(experience.codes).view(-1, 1)
        return TrainingBatch(
            observations=everything[: len(codes)],
            masked=torch.from_numpy(~experience.allowed).flatten(0, 1),
            codes=codes,
            likelihoods=torch.from_numpy(experience.likelihoods).flatten(),
            advantages=torch.from_numpy(advantages).flatten(),
            returns=torch.from_numpy(advantages + values[:-1]).flatten(),
        )

    def _improve(self, lessons: TrainingBatch) -> dict[str, float]:
        """Optimise over the rollout in minibatches; return the mean of each loss."""
        losses = []
        for _ in range(self.settings.epochs):
            order = torch.randperm(len(lessons.codes), generator=self.draws)
            for rows in torch.split(order, self.settings.batch):
                some = TrainingBatch(*(each[rows] for each in lessons))
                losses.append(torch.stack(self._descend(some)))
        names = ("surrogate", "entropy", "value_error")
        return dict(zip(names, torch.stack(losses).mean(0).tolist(), strict=True))

    def _descend(self, lessons: TrainingBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Take one optimizer step; return surrogate loss, entropy and value error before it."""
        deviation, mean = torch.std_mean(lessons.advantages, correction=0)
        normed = lessons._replace(advantages=(lessons.advantages - mean) / (deviation + 1e-8))
        networks = self.networks
        with torch.enable_grad():
            logits = networks.logits(lessons.observations, lessons.masked)
            surrogate, doubt = surrogate_and_entropy(logits, normed, self.settings.clip)
            error = (networks.values(lessons.observations) - lessons.returns).square().mean()
            loss = surrogate + ERROR_WEIGHT * error - self.settings.entropy * doubt
        [networks.vector.grad] = torch.autograd.grad(loss, networks.vector)
        torch.nn.utils.clip_grad_norm_(networks.vector, LARGEST_GRADIENT)
        self.optimizer.step()
        return surrogate.detach(), doubt.detach(), error.detach()

    def save(self, path: Path) -> None:
        """Write networks, optimizer state and description to a checkpoint."""
        tensors = {name: value.detach().numpy() for name, value in self.networks.named.items()}
        moments = self.optimizer.state_dict()["state"].get(0, {})
        tensors |= {f"{OPTIMIZER}{name}": moment.numpy() for name, moment in moments.items()}
        about = {**asdict(self.about), "steps": self.steps}
        write_atomically(path, save(tensors, {CHECKPOINT_KEY: json.dumps(about)}))

    def load(self, path: Path) -> None:
        """Load networks and optimizer state from a checkpoint with the same layers and sizes.

        Raises `InputError` for a checkpoint of other networks.
        """
        weights, about = read_checkpoint(path)
        for name in ("position_sizes", "fixed_size"):
            there, here = getattr(about, name), getattr(self.about, name)
            if there != here:
                raise InputError(f"{path}: trained with {name} {there}, this run has {here}")
        if not 0 <= about.steps <= MAX_TRAINED_STEPS:
            raise InputError(
                f"{path}: trained for {about.steps} steps, outside 0 … {MAX_TRAINED_STEPS}"
            )
        shapes = {name: value.shape for name, value in self.networks.named.items()}
        vector = _vector(path, weights, shapes)
        moments: dict[int, dict[str, Tensor]] = {}
        if any(name.startswith(OPTIMIZER) for name in weights):
            [count] = _vector(path, weights, {f"{OPTIMIZER}step": torch.Size()})
            mean, square = (
                _vector(path, weights, {f"{OPTIMIZER}{name}": vector.shape})
                for name in ("exp_avg", "exp_avg_sq")
            )
            if count < 0 or (square < 0).any():
                raise InputError(f"{path}: its optimizer has counts or squares below 0")
            moments[0] = {"step": count, "exp_avg": mean, "exp_avg_sq": square}
        with torch.no_grad():
            self.networks.vector.copy_(vector)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.steps = about.steps
        self.markets.skip_to(about.steps)
        # With the same seed, the draws of the earlier run would repeat.
        again = np.random.SeedSequence([self.about.seed, about.steps]).generate_state(1)
        self.draws.manual_seed(int(again[0]))


def _vector(path: Path, weights: Weights, shapes: Mapping[str, torch.Size]) -> Tensor:
    """Return the named tensors of a checkpoint, validated and concatenated."""
    for name, shape in shapes.items():
        values = weights.get(name)
        if values is None or values.shape != shape:
            raise InputError(f"{path}: {name} does not fit this run's learner.layers")
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise InputError(f"{path}: {name} has numbers that are not finite, or no float32")
    return torch.from_numpy(np.concatenate([weights[name].ravel() for name in shapes]))


def build_learner(
    env: VectorKalshiEnv,
    settings: LearnerSettings,
    seed: int,
    *,
    given: dict[str, Any] | None = None,
) -> Learner:
    """Build a learner with new networks.

    env: environment of the markets to play.
    seed: seed of networks, actions and markets.
    given: training settings that checkpoints store.
    """
    draws = torch.Generator().manual_seed(seed)
    networks = Networks(len(FEATURES), settings.layers, draws)
    optimizer = torch.optim.Adam([networks.vector], settings.rate, eps=1e-5, fused=True)
    about = CheckpointInfo(
        position_sizes=env.settings.position_sizes,
        fixed_size=env.settings.fixed_size,
        seed=seed,
        settings=given or {},
        order_rules=ORDER_RULES,
    )
    markets = Markets(env, settings, seed)
    return Learner(networks, optimizer, markets, settings, about, draws)


@dataclass(frozen=True, eq=False, slots=True)
class Experience:
    """A rollout: T steps of N markets, the data of one update.

    observations: features [T + 1, N, F], before each step and after the last.
    allowed: mask of permitted actions [T, N, 25].
    codes: codes of the chosen actions [T, N].
    likelihoods: log-likelihoods of the chosen actions [T, N].
    rewards: [T, N], percent of the starting cash, or 100 times the change of log wealth.
    terminated: [T, N], true if a step settled the market; the next observation is of the next
        episode.
    """

    observations: Floats
    allowed: Mask
    codes: Codes
    likelihoods: Floats
    rewards: Floats
    terminated: Mask


class Markets:
    """Collector of rollouts, which plays all markets `rollout` steps at a time.

    sent: number of orders sent by action [25] since the last call of `figures`.
    earned: results of the episodes that settled since the last call of `figures`, percent.
    """

    def __init__(self, env: VectorKalshiEnv, settings: LearnerSettings, seed: int) -> None:
        self.env = env
        self._is_log = env.settings.reward == "log_wealth"
        self._scale = PERCENT if self._is_log else PERCENT / env.settings.starting_cash
        self._settings = settings
        self._seeds: list[Any] = list(range(seed, seed + env.num_envs))
        self._seen: Floats | None = None
        self._potential = np.zeros(env.num_envs)
        self._total = np.zeros(env.num_envs)
        self.sent = np.zeros(ACTION_COUNT, np.int64)
        self.earned: list[float] = []

    def skip_to(self, steps: int) -> None:
        """Change the seeds so that sessions of the first `steps` steps are not played again."""
        self._seeds = [[each, steps] for each in self._seeds]

    def begin(self) -> Floats:
        self._seen, _ = self.env.reset(seed=self._seeds)
        return self._seen

    def play(self, choose: Choose) -> Experience:
        """Play the next `rollout` steps, continuing open episodes, and return them.

        choose: returns action codes and log-likelihoods for observations and masks.
        """
        env, length = self.env, self._settings.rollout
        first = self.begin() if self._seen is None else self._seen
        observations = np.empty((length + 1, *first.shape), np.float32)
        allowed = np.empty((length, env.num_envs, ACTION_COUNT), dtype=bool)
        codes = np.empty((length, env.num_envs), np.int64)
        likelihoods = np.empty((length, env.num_envs), np.float32)
        rewards = np.empty((length, env.num_envs))
        terminated = np.empty((length, env.num_envs), dtype=bool)
        sent = np.empty((length, env.num_envs), dtype=bool)
        held = np.empty((length, env.num_envs))
        equity = np.empty((length, env.num_envs))
        observations[0] = first
        for t in range(length):
            allowed[t] = env.action_masks()
            codes[t], likelihoods[t] = choose(observations[t], allowed[t])
            observations[t + 1], rewards[t], terminated[t], _, info = env.step(codes[t])
            held[t] = env.markets["yes"] - env.markets["no"]
            equity[t] = env.equity
            sent[t] = env.markets["sent"] > 0
            self._count(rewards[t], info.get("settled"))
        self.sent += np.bincount(codes[sent], minlength=ACTION_COUNT)
        self._seen = observations[-1]
        if self._settings.shaping:
            # A settled market has begun again without a position.
            potential = np.where(terminated, 0.0, self._potentials(observations[1:], held, equity))
            before = np.concatenate([self._potential[None], potential[:-1]])
            rewards += self._settings.discount * potential - before
            self._potential = potential[-1]
        rewards *= self._scale
        return Experience(
            observations, allowed, codes, likelihoods, rewards.astype(np.float32), terminated
        )

    def _potentials(self, observations: Floats, held: Array, equity: Array) -> Array:
        """Return the value of positions at the estimate less the value at mid quote, [T, N]."""
        bid, ask, estimate = (
            observations[..., place].astype(np.float64) for place in QUOTE_FEATURES
        )
        potential = held * (estimate - (bid + ask) / 2)
        return np.log1p(potential / equity) if self._is_log else potential

    def _count(self, rewards: Array, settled: Codes | None) -> None:
        self._total += rewards
        if settled is not None:
            self.earned += (self._total[settled] * self._scale).tolist()
            self._total[settled] = 0

    def figures(self) -> dict[str, float]:
        """Return and reset statistics of the episodes since the last call; omit undefined ones.

        earned: mean result of an episode, percent.
        orders: mean number of orders in an episode.
        size: mean contracts of an order.
        share_…: share of each size among the orders.
        """
        figures: dict[str, float] = {}
        sizes = self.env.settings.position_sizes
        counts = self.sent[1:21].reshape(4, len(sizes)).sum(axis=0)
        if self.earned:
            figures["earned"] = float(np.mean(self.earned))
            figures["orders"] = float(counts.sum() / len(self.earned))
        if counts.sum():
            figures["size"] = float(counts @ sizes / counts.sum())
            figures |= {
                f"share_{size}": float(c / counts.sum())
                for size, c in zip(sizes, counts, strict=True)
            }
        self.sent[:] = 0
        self.earned.clear()
        return figures
