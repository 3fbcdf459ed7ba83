"""Proximal policy optimisation with action masks over many markets, with checkpoints.

The algorithm follows Schulman et al. 2017, the masks Huang and Ontañón 2020. Initial weights,
Adam's epsilon, normalised advantages and gradient clipping are those of Huang et al. 2022.
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
from event_contracts.simulation.vector import ActionCodes, Floats, VectorKalshiEnv
from event_contracts.trading.actions import ACTION_COUNT
from event_contracts.trading.observation import FEATURES
from event_contracts.trading.policies import (
    ACTION_LAYER_PREFIX,
    CHECKPOINT_KEY,
    POLICY_LAYERS_PREFIX,
    CheckpointInfo,
    Weights,
    read_checkpoint,
)
from event_contracts.trading.rules import ORDER_RULES_VERSION
from foundation.arrays import Array, Mask
from foundation.errors import InputError
from foundation.files import write_atomically

VALUE_LAYERS_PREFIX = "mlp_extractor.value_net."
VALUE_OUTPUT_PREFIX = "value_net."
LAYER_PARAMETERS = ("weight", "bias")  # parameters of a layer
OPTIMIZER_PREFIX = "optimizer."
MAX_TRAINED_STEPS = 10**12  # over all markets and runs
MASKED_LOGIT = -1e8  # logit of a forbidden action
GAE_LAMBDA = 0.8  # λ of generalised advantage estimation
RATIO_CLIP = 0.2  # clipping range of the probability ratio, around 1
VALUE_LOSS_WEIGHT = 0.5  # weight of the value network's error
MAX_GRADIENT_NORM = 0.5  # maximum norm of the gradient
PERCENT = 100
QUOTE_FEATURE_INDICES = [FEATURES.index(name) for name in ("bid", "ask", "estimate")]
# Maps observations [N, F] and allowed actions [N, 25] to codes [N] and their log-likelihoods [N].
ChooseActions = Callable[[Floats, Mask], tuple[ActionCodes, Floats]]


class PolicyValueNetworks:
    """Policy and value network with tanh layers over the same features.

    width: number of features.
    layers: units of each hidden layer.
    draws: random generator of the initial weights.
    parameter_vector: all parameters of both networks [P].
    """

    def __init__(self, width: int, layers: tuple[int, ...], draws: torch.Generator) -> None:
        self._shapes = _parameter_shapes(width, layers)
        self._layers = len(layers)
        self.parameter_vector = torch.zeros(sum(map(math.prod, self._shapes.values())))
        gains = {f"{ACTION_LAYER_PREFIX}weight": 0.01, f"{VALUE_OUTPUT_PREFIX}weight": 1.0}
        for name, weights in self.named_parameters.items():
            if name.endswith("weight"):
                torch.nn.init.orthogonal_(weights, gains.get(name, math.sqrt(2)), draws)
        self.parameter_vector.requires_grad_()

    @property
    def named_parameters(self) -> dict[str, Tensor]:
        """Return views of weights [out, in] and biases [out], by their names in checkpoints."""
        shapes = self._shapes.values()
        parts = torch.split(self.parameter_vector, [math.prod(shape) for shape in shapes])
        views = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
        return dict(zip(self._shapes, views, strict=True))

    def logits(self, observations: Tensor, masked_actions: Tensor) -> Tensor:
        """Return the logits of the actions [B, 25].

        masked_actions: mask of forbidden actions [B, 25].
        """
        return self._forward(POLICY_LAYERS_PREFIX, ACTION_LAYER_PREFIX, observations).add(
            masked_actions, alpha=MASKED_LOGIT
        )

    def values(self, observations: Tensor) -> Tensor:
        """Return the value network's estimates of the discounted future reward [B]."""
        return self._forward(VALUE_LAYERS_PREFIX, VALUE_OUTPUT_PREFIX, observations)[:, 0]

    def _forward(self, hidden: str, last: str, observations: Tensor) -> Tensor:
        named = self.named_parameters
        for name in (f"{hidden}{2 * k}." for k in range(self._layers)):
            observations = linear(observations, named[f"{name}weight"], named[f"{name}bias"]).tanh()
        return linear(observations, named[f"{last}weight"], named[f"{last}bias"])


def _parameter_shapes(width: int, layers: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return shapes of all weights and biases by name, in the order in which checkpoints list them.

    width: number of features.
    layers: units of each hidden layer.
    """
    widths = (width, *layers)
    linear = {
        f"{hidden}{2 * k}.": (units, widths[k])
        for hidden in (POLICY_LAYERS_PREFIX, VALUE_LAYERS_PREFIX)
        for k, units in enumerate(layers)
    }
    linear |= {
        ACTION_LAYER_PREFIX: (ACTION_COUNT, layers[-1]),
        VALUE_OUTPUT_PREFIX: (1, layers[-1]),
    }
    return {
        f"{name}{of}": shape if of == "weight" else shape[:1]
        for name, shape in linear.items()
        for of in LAYER_PARAMETERS
    }


class TrainingBatch(NamedTuple):
    """A training batch of B steps.

    observations: features [B, F].
    masked_actions: mask of forbidden actions [B, 25].
    action_codes: codes of the chosen actions [B, 1].
    log_probs: [B], log-likelihoods of the chosen actions under the policy that chose them.
    advantages: [B], generalised advantage estimates.
    returns: [B], discounted sums of later rewards.
    """

    observations: Tensor
    masked_actions: Tensor
    action_codes: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor


def estimate_advantages(
    rewards: Floats, values: Floats, terminated: Mask, discount: float, gae_lambda: float
) -> Floats:
    """Return generalised advantage estimates [T, N] (Schulman et al. 2016).

    rewards: [T, N].
    values: state values [T + 1, N], before each step and after the last.
    terminated: [T, N], true if a step ended the episode.
    discount: discount γ of a reward one step later.
    gae_lambda: λ of the estimates.
    """
    found = np.empty_like(rewards)
    following = np.zeros_like(rewards[0])
    for t in range(len(rewards) - 1, -1, -1):
        kept = np.where(terminated[t], np.float32(0), np.float32(discount))
        following = rewards[t] + kept * (values[t + 1] + gae_lambda * following) - values[t]
        found[t] = following
    return found


def surrogate_loss_and_entropy(
    logits: Tensor, batch: TrainingBatch, clip: float
) -> tuple[Tensor, Tensor]:
    """Return the mean clipped surrogate loss, and the mean entropy of the action distribution.

    logits: [B, 25].
    clip: bound on the deviation of the probability ratio from 1.
    """
    logarithms = logits.log_softmax(1)
    ratio = (logarithms.gather(1, batch.action_codes)[:, 0] - batch.log_probs).exp()
    clipped = batch.advantages * ratio.clamp(1 - clip, 1 + clip)
    doubt = -(logarithms.exp() * logarithms).sum(1)
    return -torch.minimum(batch.advantages * ratio, clipped).mean(), doubt.mean()


@dataclass(eq=False, slots=True)
class Learner:
    """Trainer of the policy and value networks by proximal policy optimisation.

    checkpoint_info: description that is stored in checkpoints; `save` sets its number of steps.
    generator: random generator of actions and of the order of batches.
    steps_done: number of steps so far, over all markets and runs.
    """

    networks: PolicyValueNetworks
    optimizer: torch.optim.Adam
    rollout_collector: RolloutCollector
    settings: LearnerSettings
    checkpoint_info: CheckpointInfo
    generator: torch.Generator
    steps_done: int = 0

    @torch.no_grad()
    def learn(self, total_steps: int, on_update: Callable[[int, dict[str, float]], None]) -> None:
        """Train until a total number of steps.

        total_steps: total number of steps, over all markets and runs.
        on_update: called after each update with the steps so far and training statistics.
        """
        while self.steps_done < total_steps:
            experience = self.rollout_collector.collect_rollout(self._choose_actions)
            figures = self._update_networks(self._build_training_batch(experience))
            self.steps_done += experience.action_codes.size
            on_update(self.steps_done, self.rollout_collector.pop_episode_statistics() | figures)

    def _choose_actions(self, observations: Floats, allowed: Mask) -> tuple[ActionCodes, Floats]:
        logits = self.networks.logits(torch.from_numpy(observations), torch.from_numpy(~allowed))
        chances = logits.softmax(1)
        sums = chances.cumsum(1)
        drawn = torch.rand(len(observations), 1, generator=self.generator) * sums[:, -1:]
        codes = (sums <= drawn).sum(1, keepdim=True)
        return codes[:, 0].numpy(), chances.gather(1, codes)[:, 0].log_().numpy()

    def _build_training_batch(self, experience: Rollout) -> TrainingBatch:
        everything = torch.from_numpy(experience.observations).flatten(0, 1)
        values = self.networks.values(everything).view(experience.observations.shape[:2]).numpy()
        advantages = estimate_advantages(
            experience.rewards, values, experience.terminated, self.settings.discount, GAE_LAMBDA
        )
        codes = torch.from_numpy(experience.action_codes).view(-1, 1)
        return TrainingBatch(
            observations=everything[: len(codes)],
            masked_actions=torch.from_numpy(~experience.allowed_actions).flatten(0, 1),
            action_codes=codes,
            log_probs=torch.from_numpy(experience.log_probs).flatten(),
            advantages=torch.from_numpy(advantages).flatten(),
            returns=torch.from_numpy(advantages + values[:-1]).flatten(),
        )

    def _update_networks(self, lessons: TrainingBatch) -> dict[str, float]:
        """Update the networks in several epochs of minibatches; return the mean losses by name.

        lessons: the steps of one rollout.
        """
        losses = []
        for _ in range(self.settings.epochs):
            order = torch.randperm(len(lessons.action_codes), generator=self.generator)
            for rows in torch.split(order, self.settings.batch):
                some = TrainingBatch(*(each[rows] for each in lessons))
                losses.append(torch.stack(self._take_optimizer_step(some)))
        names = ("surrogate", "entropy", "value_error")
        return dict(zip(names, torch.stack(losses).mean(0).tolist(), strict=True))

    def _take_optimizer_step(self, lessons: TrainingBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Take one optimizer step on a minibatch.

        Return surrogate loss, entropy and value error of the networks before this step.
        """
        deviation, mean = torch.std_mean(lessons.advantages, correction=0)
        normed = lessons._replace(advantages=(lessons.advantages - mean) / (deviation + 1e-8))
        networks = self.networks
        with torch.enable_grad():
            logits = networks.logits(lessons.observations, lessons.masked_actions)
            surrogate, doubt = surrogate_loss_and_entropy(logits, normed, RATIO_CLIP)
            error = (networks.values(lessons.observations) - lessons.returns).square().mean()
            loss = surrogate + VALUE_LOSS_WEIGHT * error - self.settings.entropy * doubt
        [networks.parameter_vector.grad] = torch.autograd.grad(loss, networks.parameter_vector)
        torch.nn.utils.clip_grad_norm_(networks.parameter_vector, MAX_GRADIENT_NORM)
        self.optimizer.step()
        return surrogate.detach(), doubt.detach(), error.detach()

    def save(self, path: Path) -> None:
        """Write networks, optimizer state and the description of the training to a checkpoint."""
        tensors = {
            name: value.detach().numpy() for name, value in self.networks.named_parameters.items()
        }
        moments = self.optimizer.state_dict()["state"].get(0, {})
        tensors |= {f"{OPTIMIZER_PREFIX}{name}": moment.numpy() for name, moment in moments.items()}
        about = {**asdict(self.checkpoint_info), "steps": self.steps_done}
        write_atomically(path, save(tensors, {CHECKPOINT_KEY: json.dumps(about)}))

    def load(self, path: Path) -> None:
        """Load networks and optimizer state from a checkpoint with the same layers and sizes.

        Raises `InputError` if the checkpoint's networks differ from these.
        """
        weights, about = read_checkpoint(path)
        for name in ("position_sizes", "fixed_size"):
            there, here = getattr(about, name), getattr(self.checkpoint_info, name)
            if there != here:
                raise InputError(
                    f"{path}: the checkpoint was trained with {name}={json.dumps(there)}, but this"
                    f" run has {name}={json.dumps(here)}; set {name}={json.dumps(there)}"
                )
        if not 0 <= about.steps <= MAX_TRAINED_STEPS:
            raise InputError(
                f"{path}: checkpoint has {about.steps} steps, outside 0 … {MAX_TRAINED_STEPS}"
            )
        shapes = {name: value.shape for name, value in self.networks.named_parameters.items()}
        vector = _read_parameter_vector(path, weights, shapes)
        moments: dict[int, dict[str, Tensor]] = {}
        if any(name.startswith(OPTIMIZER_PREFIX) for name in weights):
            [count] = _read_parameter_vector(
                path, weights, {f"{OPTIMIZER_PREFIX}step": torch.Size()}
            )
            mean, square = (
                _read_parameter_vector(path, weights, {f"{OPTIMIZER_PREFIX}{name}": vector.shape})
                for name in ("exp_avg", "exp_avg_sq")
            )
            for what, is_negative in (
                ("step count", bool(count < 0)),
                ("squared gradient", bool((square < 0).any())),
            ):
                if is_negative:
                    raise InputError(
                        f"{path}: the optimizer's state has a negative {what}; resume from another"
                        " checkpoint"
                    )
            moments[0] = {"step": count, "exp_avg": mean, "exp_avg_sq": square}
        with torch.no_grad():
            self.networks.parameter_vector.copy_(vector)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.steps_done = about.steps
        self.rollout_collector.reseed_after_resume(about.steps)
        # With the same seed, the draws of the earlier run would repeat.
        state = np.random.SeedSequence([self.checkpoint_info.seed, about.steps]).generate_state(1)
        self.generator.manual_seed(int(state[0]))


def _read_parameter_vector(
    path: Path, weights: Weights, shapes: Mapping[str, torch.Size]
) -> Tensor:
    """Return the tensors of a checkpoint that `shapes` names, validated and joined to a vector.

    Raises `InputError` for a missing tensor, another shape, or values that are not finite float32.
    """
    for name, shape in shapes.items():
        values = weights.get(name)
        if values is None:
            raise InputError(f"{path}: {name} is missing; resume from another checkpoint")
        if values.shape != shape:
            raise InputError(
                f"{path}: {name} has shape {list(values.shape)}, but this run needs {list(shape)};"
                " set learner.layers as in the run that wrote the checkpoint"
            )
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise InputError(f"{path}: {name} must contain finite float32 numbers")
    return torch.from_numpy(np.concatenate([weights[name].ravel() for name in shapes]))


def build_learner(
    env: VectorKalshiEnv,
    settings: LearnerSettings,
    seed: int,
    *,
    training_settings: dict[str, Any] | None = None,
) -> Learner:
    """Build a learner with new networks.

    env: environment of the markets to play.
    seed: seed of networks, actions and markets.
    training_settings: training settings that checkpoints store.
    """
    draws = torch.Generator().manual_seed(seed)
    networks = PolicyValueNetworks(len(FEATURES), settings.layers, draws)
    optimizer = torch.optim.Adam(
        [networks.parameter_vector], settings.learning_rate, eps=1e-5, fused=True
    )
    about = CheckpointInfo(
        position_sizes=env.settings.position_sizes,
        fixed_size=env.settings.fixed_size,
        seed=seed,
        settings=training_settings or {},
        order_rules=ORDER_RULES_VERSION,
    )
    markets = RolloutCollector(env, settings, seed)
    return Learner(networks, optimizer, markets, settings, about, draws)


@dataclass(frozen=True, eq=False, slots=True)
class Rollout:
    """A rollout: T steps of N markets, the data of one update.

    observations: features [T + 1, N, F], before each step and after the last.
    allowed_actions: mask of permitted actions [T, N, 25].
    action_codes: codes of the chosen actions [T, N].
    log_probs: log-likelihoods of the chosen actions [T, N].
    rewards: [T, N], percent of the starting cash, or 100 times the change of log wealth.
    terminated: [T, N], true if a step settled the market. The next observation then belongs to the
        market's next episode.
    """

    observations: Floats
    allowed_actions: Mask
    action_codes: ActionCodes
    log_probs: Floats
    rewards: Floats
    terminated: Mask


class RolloutCollector:
    """Collector of rollouts, which plays all markets `rollout` steps at a time.

    order_counts: number of orders sent by action [25] since the last call of
        `pop_episode_statistics`.
    episode_results: results of the episodes that settled since the last call of
        `pop_episode_statistics`, percent.
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
        self.order_counts = np.zeros(ACTION_COUNT, np.int64)
        self.episode_results: list[float] = []

    def reseed_after_resume(self, steps: int) -> None:
        """Change the seeds, so that a resumed run does not repeat its first `steps` steps."""
        self._seeds = [[each, steps] for each in self._seeds]

    def reset(self) -> Floats:
        self._seen, _ = self.env.reset(seed=self._seeds)
        return self._seen

    def collect_rollout(self, choose: ChooseActions) -> Rollout:
        """Play the next `rollout` steps of all markets and return them; open episodes continue.

        choose: function that returns action codes and their log-likelihoods for observations and
            masks of permitted actions.
        """
        env, length = self.env, self._settings.rollout
        first = self.reset() if self._seen is None else self._seen
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
            self._record_rewards(rewards[t], info.get("settled"))
        self.order_counts += np.bincount(codes[sent], minlength=ACTION_COUNT)
        self._seen = observations[-1]
        # A settled market has begun again without a position.
        potential = np.where(
            terminated, 0.0, self._shaping_potentials(observations[1:], held, equity)
        )
        before = np.concatenate([self._potential[None], potential[:-1]])
        rewards += self._settings.discount * potential - before
        self._potential = potential[-1]
        rewards *= self._scale
        return Rollout(
            observations, allowed, codes, likelihoods, rewards.astype(np.float32), terminated
        )

    def _shaping_potentials(self, observations: Floats, held: Array, equity: Array) -> Array:
        """Return the potentials of reward shaping [T, N]: the expected profit of each position.

        Shaping by a potential leaves the best policy unchanged (Ng, Harada and Russell 1999).

        It is the value at the estimate less the value at mid quote, USD. For rewards in log wealth
        it is the log growth of equity by this amount.

        held: contracts [T, N], YES positive and NO negative.
        equity: USD [T, N].
        """
        bid, ask, estimate = (
            observations[..., place].astype(np.float64) for place in QUOTE_FEATURE_INDICES
        )
        potential = held * (estimate - (bid + ask) / 2)
        return np.log1p(potential / equity) if self._is_log else potential

    def _record_rewards(self, rewards: Array, settled: ActionCodes | None) -> None:
        self._total += rewards
        if settled is not None:
            self.episode_results += (self._total[settled] * self._scale).tolist()
            self._total[settled] = 0

    def pop_episode_statistics(self) -> dict[str, float]:
        """Return statistics of the episodes since the last call, and reset them.

        A statistic without data is omitted. The keys are:

        earned: mean result of an episode, percent.
        orders: mean number of orders in an episode.
        size: mean contracts of an order.
        share_…: share of each size among the orders.
        """
        figures: dict[str, float] = {}
        sizes = self.env.settings.position_sizes
        counts = self.order_counts[1:21].reshape(4, len(sizes)).sum(axis=0)
        if self.episode_results:
            figures["earned"] = float(np.mean(self.episode_results))
            figures["orders"] = float(counts.sum() / len(self.episode_results))
        if counts.sum():
            figures["size"] = float(counts @ sizes / counts.sum())
            figures |= {
                f"share_{size}": float(c / counts.sum())
                for size, c in zip(sizes, counts, strict=True)
            }
        self.order_counts[:] = 0
        self.episode_results.clear()
        return figures
