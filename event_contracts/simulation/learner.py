"""Stable-Baselines3 over many markets at once, and its state as a file without code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from event_contracts.simulation.settings import LearnerSettings
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.network import ABOUT, About, Weights, read_checkpoint
from event_contracts.trading.observation import features_of
from foundation.arrays import Array, Mask
from foundation.errors import InputError
from foundation.files import put_whole

OPTIMIZER = "optimizer."
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
MOST_TRAINED = 10**12  # steps, over all markets and runs
PERCENT = 100
SHOWN = {name: features_of(sizes=False).index(name) for name in ("bid", "ask", "estimate")}


class MarketsEnv(VecEnv):
    """The vectorised environment in Stable-Baselines3's words; rewards in percent of the cash.

    sent: orders [25] by action since they were last counted, refused ones not among them.
    episodes: that have settled since then.
    """

    def __init__(self, env: VectorKalshiEnv, settings: LearnerSettings, seed: int) -> None:
        # The base class asks for attributes of the environment at once.
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._is_log = env.settings.reward == "log_wealth"
        self._scale = PERCENT if self._is_log else PERCENT / env.settings.starting_cash
        self._shaping = settings.shaping
        self._discount = settings.discount
        self._potential = np.zeros(env.num_envs)
        self._seeds: list[Any] = list(range(seed, seed + env.num_envs))
        self._actions = np.zeros(env.num_envs, np.int64)
        self._earned = np.zeros(env.num_envs)
        self._steps = np.zeros(env.num_envs, np.int64)
        self.sent = np.zeros(25, np.int64)
        self.episodes = 0

    def reset(self) -> npt.NDArray[np.float32]:
        """The first observations [N, F] under the seed."""
        seen, _ = self.env.reset(seed=self._seeds)
        self._earned[:] = 0
        self._steps[:] = 0
        return seen

    def go_on(self, steps: int) -> None:
        """Play other sessions than those of the first `steps` steps under the seed."""
        self._seeds = [[each, steps] for each in self._seeds]

    def step_async(self, actions: npt.NDArray[np.int64]) -> None:
        """Keep the actions [N] for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Observations, rewards, ends and what is told of each market."""
        seen, rewards, over, _, info = self.env.step(self._actions)
        self.sent += np.bincount(self._actions[self.env.markets["sent"] > 0], minlength=25)
        self._earned += rewards * self._scale
        rewards = self._shaped(rewards, seen, over) * self._scale
        self._steps += 1
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        settled = info.get("settled", ())
        for place, i in enumerate(settled):
            told[i] = {
                "terminal_observation": info["final_obs"][place],
                "episode": {"r": self._earned[i], "l": int(self._steps[i]), "t": 0.0},
            }
        if len(settled):
            self.episodes += len(settled)
            self._earned[settled] = 0
            self._steps[settled] = 0
        return seen, rewards.astype(np.float32), over, told

    def _shaped(
        self, rewards: Array, seen: npt.NDArray[np.float32], over: Mask
    ) -> npt.NDArray[np.float64]:
        """The rewards, with the potential's change where positions count at the estimate."""
        if not self._shaping:
            return rewards
        before = self._potential
        held = self.env.markets["yes"] - self.env.markets["no"]
        shown = {name: seen[:, place].astype(np.float64) for name, place in SHOWN.items()}
        potential = held * (shown["estimate"] - (shown["bid"] + shown["ask"]) / 2)
        if self._is_log:
            potential = np.log1p(potential / self.env.worth)
        # A market that has settled has begun anew, with nothing held.
        self._potential = np.where(over, 0.0, potential)
        return rewards + self._discount * self._potential - before

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Masks [25] of every market; there is no other method."""
        if method_name != "action_masks":
            raise AttributeError(method_name)
        return list(self.env.action_masks()[list(self._get_indices(indices))])

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the environment, once for each market."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Nothing can be set from outside."""
        raise AttributeError(attr_name)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No market is."""
        return [False for _ in self._get_indices(indices)]

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(eq=False, slots=True)
class Learner:
    """A network that learns over markets.

    about: what it is trained for; `steps` of it where it began.
    """

    model: MaskablePPO
    markets: MarketsEnv
    about: About

    @property
    def steps(self) -> int:
        """Steps so far, over all markets and runs."""
        return int(self.model.num_timesteps)

    def learn(self, until: int, on_update: Callable[[int, dict[str, float]], None]) -> None:
        """Go on until so many steps; `on_update` hears after each rollout of steps and figures."""
        if self.steps < until:
            self.model.learn(
                until - self.steps, callback=_Told(self, on_update), reset_num_timesteps=False
            )

    def log_to(self, board: Path) -> None:
        """Write figures of updates to a folder for TensorBoard, which is made."""
        self.model.set_logger(configure(str(board), ["tensorboard"]))

    def save(self, path: Path) -> None:
        """Write the whole state to a file."""
        tensors = {name: value.numpy() for name, value in self.model.policy.state_dict().items()}
        state = self.model.policy.optimizer.state_dict()["state"]
        for number, moments in state.items():
            for name in MOMENTS:
                tensors[f"{OPTIMIZER}{number}.{name}"] = moments[name].numpy()
        about = {**asdict(self.about), "steps": self.steps}
        put_whole(path, save(tensors, {ABOUT: json.dumps(about)}))

    def load(self, path: Path) -> None:
        """Go on from a file of the same networks.

        Raises
        ------
        InputError
            for a file that is none, or of other networks or actions.
        """
        weights, about = read_checkpoint(path)
        for name in ("position_sizes", "fixed_size", "features"):
            there, here = getattr(about, name), getattr(self.about, name)
            if there != here:
                raise InputError(f"{path}: trained with {name} {there}, this run has {here}")
        if not 0 <= about.steps <= MOST_TRAINED:
            raise InputError(f"{path}: trained for {about.steps} steps, outside 0 … {MOST_TRAINED}")
        policy = self.model.policy
        shapes = {name: tuple(value.shape) for name, value in policy.state_dict().items()}
        moments = {
            f"{OPTIMIZER}{k}.{name}": () if name == "step" else tuple(each.shape)
            for k, each in enumerate(policy.parameters())
            for name in MOMENTS
            if any(f"{OPTIMIZER}{k}.{one}" in weights for one in MOMENTS)
        }
        tensors = {
            name: _tensor(path, weights, name, shape) for name, shape in (shapes | moments).items()
        }
        policy.load_state_dict({name: tensors[name] for name in shapes})
        optimizer = policy.optimizer.state_dict()
        optimizer["state"] = {
            k: {name: tensors[f"{OPTIMIZER}{k}.{name}"] for name in MOMENTS}
            for k in range(len(shapes))
            if f"{OPTIMIZER}{k}.step" in tensors
        }
        policy.optimizer.load_state_dict(optimizer)
        self.model.num_timesteps = about.steps
        self.markets.go_on(about.steps)


def _tensor(path: Path, weights: Weights, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    values = weights.get(name)
    if values is None or values.shape != shape:
        raise InputError(f"{path}: {name} does not fit this run's learner.layers")
    if values.dtype != np.float32 or not np.isfinite(values).all():
        raise InputError(f"{path}: {name} has numbers that are not finite, or no float32")
    return torch.from_numpy(values.copy())


def learner_of(
    env: VectorKalshiEnv,
    settings: LearnerSettings,
    seed: int,
    *,
    given: dict[str, Any] | None = None,
) -> Learner:
    """A learner over markets.

    seed: of networks, choices and markets. given: settings to be written beside the weights.
    """
    markets = MarketsEnv(env, settings, seed)
    model = MaskablePPO(
        "MlpPolicy",
        markets,
        n_steps=settings.rollout,
        batch_size=min(settings.batch, settings.rollout * env.num_envs),
        n_epochs=settings.epochs,
        learning_rate=settings.rate,
        gamma=settings.discount,
        gae_lambda=settings.trace,
        clip_range=settings.clip,
        ent_coef=settings.entropy,
        policy_kwargs={"net_arch": list(settings.layers)},
        device="cpu",
        seed=seed,
    )
    model.set_logger(configure(None, []))
    about = About(
        position_sizes=env.settings.position_sizes,
        fixed_size=env.settings.fixed_size,
        features=env.settings.features,
        seed=seed,
        settings=given or {},
    )
    return Learner(model, markets, about)


class _Told(BaseCallback):
    """Figures of every rollout: what episodes earned, and the sizes that were sent."""

    def __init__(
        self, learner: Learner, on_update: Callable[[int, dict[str, float]], None]
    ) -> None:
        super().__init__()
        self._learner = learner
        self._on_update = on_update

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        figures = figures_of(self._learner.markets, self._learner.model.ep_info_buffer or ())
        for name, value in figures.items():
            self.logger.record(f"kalshi/{name}", value)
        self._on_update(self.num_timesteps, figures)


def figures_of(markets: MarketsEnv, earned: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Figures since the last call: `earned` of the last episodes, percent; `orders` of an episode;
    `size`, the mean contracts of an order; the `share` of each size. What nobody knows is left out.
    """
    figures: dict[str, float] = {}
    returns = [each["r"] for each in earned]
    if returns:
        figures["earned"] = float(np.mean(returns))
    sizes = markets.env.settings.position_sizes
    counts = markets.sent[1:21].reshape(4, len(sizes)).sum(axis=0)
    if markets.episodes:
        figures["orders"] = float(counts.sum() / markets.episodes)
    if counts.sum():
        figures["size"] = float(counts @ sizes / counts.sum())
        figures |= {
            f"share_{size}": float(c / counts.sum()) for size, c in zip(sizes, counts, strict=True)
        }
    markets.sent[:] = 0
    markets.episodes = 0
    return figures
