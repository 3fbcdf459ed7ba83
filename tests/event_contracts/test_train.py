"""Training leaves a checkpoint, goes on from it, and learns that there is nothing to earn."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from event_contracts.simulation.learner import Learner, Markets, learner_of
from event_contracts.simulation.settings import EpisodeSettings, LearnerSettings
from event_contracts.simulation.synthetic import SyntheticMarket
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.policies import load_network, read_checkpoint
from event_contracts.train import CHECKPOINT, UPDATES, TrainingSettings, train
from foundation.arrays import Mask
from foundation.compose import composed_config
from foundation.configuration import settings_of
from foundation.errors import InputError
from foundation.files import release_outputs
from tests.commands import overridden, run_command

SMALL = ("markets=8", "steps=512", "every=128", "learner.rollout=16", "learner.batch=64")
QUICK = (*SMALL, "learner.epochs=1", "episode.market.steps=20")


def trained(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_command(["-m", "event_contracts.train", *overridden(QUICK, words)], cwd=folder)


@pytest.mark.slow
def test_a_run_leaves_a_checkpoint_that_plays_and_a_resumed_one_goes_on(tmp_path: Path) -> None:
    done = trained(tmp_path, "output=one", "episode.reward=log_wealth")
    assert done.returncode == 0, done.stderr
    assert "512 steps, in whole rounds of 128; " in done.stdout
    path = tmp_path / "one" / CHECKPOINT
    policy = load_network(path)
    assert policy.about.steps == 512
    env = VectorKalshiEnv(3, market=SyntheticMarket(steps=10))
    seen, _ = env.reset(seed=0)
    for _ in range(9):
        seen, *_ = env.step(policy.actions(seen, env.action_masks()))
    updates = [json.loads(line) for line in (tmp_path / "one" / UPDATES).read_text().splitlines()]
    assert [each["steps"] for each in updates] == [128, 256, 384, 512]
    assert {"earned", "orders", "size", "share_5", "entropy"} <= set().union(*updates)
    assert list((tmp_path / "one" / "tensorboard").glob("events*"))
    over = trained(tmp_path, "output=two", f"resume={path}", "steps=512")
    assert over.returncode == 2
    assert f"steps: {path} has 512 steps already, and steps counts them all; 512 leave" in (
        over.stderr
    )
    assert not (tmp_path / "two" / CHECKPOINT).exists()
    again = trained(tmp_path, "output=two", f"resume={path}", "steps=768")
    assert again.returncode == 0, again.stderr
    assert load_network(tmp_path / "two" / CHECKPOINT).about.steps == 768
    lines = (tmp_path / "two" / UPDATES).read_text().splitlines()
    assert json.loads(lines[0])["steps"] == 640
    runs = load_network(tmp_path / "two" / CHECKPOINT).about.runs
    assert [run["output"] for run in runs] == ["two", "one"]
    before = path.read_bytes()
    refused = trained(tmp_path, "output=one")
    assert refused.returncode == 2
    assert "is there already" in refused.stderr
    assert path.read_bytes() == before


def test_a_resumed_run_plays_other_sessions() -> None:
    market = SyntheticMarket(steps=10)
    told = []
    for steps in (0, 512, 512, 1024):
        markets = Markets(VectorKalshiEnv(4, market=market), LearnerSettings(), seed=1)
        if steps:
            markets.go_on(steps)
        told.append(markets.begin().tolist())
    assert told[1] == told[2]
    assert told[0] != told[1] != told[3]


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["resume=nowhere"], "nowhere: no checkpoint"),
        (["recorded=true", "train_events=99", "folder=."], "."),
        (["episode.fixed_size=7"], "error: episode.fixed_size: 7"),
        (["learner.layers=[5000]"], "are not 1 … 8 layers of 1 … 4096 units"),
        (["markets=100000", "learner.rollout=1000"], "which an update holds in memory"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_line(
    tmp_path: Path, words: Sequence[str], says: str
) -> None:
    done = trained(tmp_path, *overridden(["output=out"], words))
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_other_sizes_or_layers_is_not_gone_on_from(tmp_path: Path) -> None:
    market = SyntheticMarket(steps=10)
    quick = LearnerSettings(rollout=4, batch=16, epochs=1)
    learner = learner_of(VectorKalshiEnv(4, market=market), quick, seed=0)
    path = tmp_path / "one.safetensors"
    learner.save(path)
    other = VectorKalshiEnv(4, market=market, fixed_size=10)
    with pytest.raises(ValueError, match="trained with fixed_size None, this run has 10"):
        learner_of(other, quick, seed=0).load(path)
    wide = LearnerSettings(rollout=4, batch=16, epochs=1, layers=(8,))
    with pytest.raises(ValueError, match=r"does not fit this run's learner\.layers"):
        learner_of(VectorKalshiEnv(4, market=market), wide, seed=0).load(path)


def test_what_is_gone_on_with_draws_otherwise_than_where_it_began(tmp_path: Path) -> None:
    quick = LearnerSettings(rollout=4, batch=16, epochs=1)

    def fresh() -> Learner:
        return learner_of(VectorKalshiEnv(4, market=SyntheticMarket(steps=10)), quick, seed=0)

    begun = fresh()
    begun.learn(32, lambda steps, figures: None)
    begun.save(tmp_path / "one.safetensors")
    states = []
    for _ in range(2):
        again = fresh()
        first = again.draws.get_state()
        again.load(tmp_path / "one.safetensors")
        states.append(again.draws.get_state())
    assert not states[0].equal(first)
    assert states[0].equal(states[1])


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the networks and sizes that `trained` has."""
    quick = LearnerSettings(rollout=16, batch=64, epochs=1)
    learner = learner_of(VectorKalshiEnv(8, market=SyntheticMarket(steps=20)), quick, seed=0)
    learner.learn(128, lambda steps, figures: None)
    path = tmp_path_factory.mktemp("sound") / "sound.safetensors"
    learner.save(path)
    return path


Tensors = dict[str, np.ndarray[Any, Any]]


def without(name: str) -> Callable[[Tensors, dict[str, Any]], object]:
    return lambda tensors, about: tensors.pop(name)


def changed(name: str, value: float) -> Callable[[Tensors, dict[str, Any]], object]:
    return lambda tensors, about: tensors[name].fill(value)


def put(name: str, values: Any) -> Callable[[Tensors, dict[str, Any]], object]:
    return lambda tensors, about: tensors.update({name: values})


def said(**words: Any) -> Callable[[Tensors, dict[str, Any]], object]:
    return lambda tensors, about: about.update(words)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without("value_net.bias"), "value_net.bias does not fit"),
        (without("optimizer.3.step"), "optimizer.3.step does not fit"),
        (put("optimizer.0.exp_avg", np.zeros((2, 2), np.float32)), "optimizer.0.exp_avg does not"),
        (changed("value_net.weight", np.nan), "value_net.weight has numbers that are not finite"),
        (changed("optimizer.0.exp_avg_sq", -1.0), "counts or squares below 0"),
        (said(steps=-5), "trained for -5 steps"),
        (said(fixed_size=10), "trained with fixed_size 10"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_not_gone_on_from(
    sound: Path,
    damage: Callable[[Tensors, dict[str, Any]], object],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with safe_open(sound, "np") as file:
        header = dict(file.metadata())
        tensors = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
    about = json.loads(header["kalshi"])
    damage(tensors, about)
    save_file(tensors, tmp_path / "x.safetensors", {"kalshi": json.dumps(about)})
    monkeypatch.chdir(tmp_path)
    market = SyntheticMarket(steps=20)
    settings = TrainingSettings(
        markets=8,
        steps=256,
        episode=EpisodeSettings(market=market),
        learner=LearnerSettings(rollout=16, batch=64, epochs=1),
        resume="x.safetensors",
        output="deep/in/a/folder",
    )
    with pytest.raises(InputError, match=says):
        train(settings)
    release_outputs()  # as every command does at its end
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_resume_that_is_not_there_leaves_another_runs_checkpoint(
    sound: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(sound, tmp_path / CHECKPOINT))
    before = path.read_bytes()
    with pytest.raises(InputError, match="nowhere: no checkpoint"):
        train(TrainingSettings(resume="nowhere", output=str(tmp_path)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [CHECKPOINT, UPDATES])
def test_a_folder_in_the_place_of_a_file_is_refused_before_any_work(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name} is a folder, a file's name is needed"):
        train(TrainingSettings(output=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_disk_that_takes_nothing_ends_training_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(learner: Learner, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Learner, "save", full)
    quick = LearnerSettings(rollout=2, batch=4, epochs=1)
    episode = EpisodeSettings(market=SyntheticMarket(steps=5))
    settings = TrainingSettings(
        steps=4, markets=2, episode=episode, learner=quick, output=str(tmp_path / "o")
    )
    with pytest.raises(InputError, match="o cannot be written: No space left on device"):
        train(settings)


def test_a_seed_decides_the_networks_too_whatever_was_drawn_before(tmp_path: Path) -> None:
    quick = LearnerSettings(rollout=4, batch=16, epochs=1)
    states = []
    for name in ("one", "two"):
        learner = learner_of(VectorKalshiEnv(4, market=SyntheticMarket(steps=10)), quick, seed=3)
        learner.learn(16, lambda steps, figures: None)
        path = tmp_path / name
        learner.save(path)
        states.append(path.read_bytes())
    assert states[0] == states[1]


def test_what_is_saved_is_all_that_is_known_of_a_learner(tmp_path: Path) -> None:
    market = SyntheticMarket(steps=10)
    quick = LearnerSettings(rollout=4, batch=16, epochs=1)
    learner = learner_of(VectorKalshiEnv(4, market=market), quick, seed=3)
    learner.learn(64, lambda steps, figures: None)
    learner.save(tmp_path / "one.safetensors")
    another = learner_of(VectorKalshiEnv(4, market=market), quick, seed=9)
    another.load(tmp_path / "one.safetensors")
    another.save(tmp_path / "two.safetensors")
    first, about = read_checkpoint(tmp_path / "one.safetensors")
    second, _ = read_checkpoint(tmp_path / "two.safetensors")
    assert about.steps == another.steps == 64
    assert set(first) == set(second)
    assert any(name.startswith("optimizer.") for name in first)
    for name, values in first.items():
        assert np.array_equal(values, second[name])


def any_allowed(seen: np.ndarray, allowed: Mask) -> tuple[np.ndarray, np.ndarray]:
    """An allowed action in front of every market, and the logarithm of its likelihood."""
    rng = np.random.default_rng(seen.view(np.uint32).ravel()[:8])
    codes = np.array([rng.choice(np.flatnonzero(row)) for row in allowed])
    return codes, -np.log(allowed.sum(axis=1)).astype(np.float32)


def test_a_potential_moves_rewards_and_leaves_what_an_episode_earned() -> None:
    """Undiscounted, the shaped rewards of an episode add up to the others."""
    market = SyntheticMarket(steps=30, edge=0.1)
    rewards = {}
    for shaping in (False, True):
        env = VectorKalshiEnv(16, market=market, reward="log_wealth", life=20)
        settings = LearnerSettings(shaping=shaping, discount=1.0, rollout=15)
        markets = Markets(env, settings, seed=5)
        parts = [markets.play(any_allowed) for _ in range(2)]
        assert [part.over.sum() for part in parts] == [0, 16]
        assert parts[1].over[-1].all()
        assert np.array_equal(parts[0].seen[-1], parts[1].seen[0])
        rewards[shaping] = np.concatenate([part.rewards for part in parts])
        assert markets.earned == pytest.approx(rewards[False].sum(axis=0), abs=1e-3)
    assert np.allclose(rewards[True].sum(axis=0), rewards[False].sum(axis=0), atol=1e-3)
    shifted = np.abs(rewards[True]).sum()
    assert shifted != pytest.approx(np.abs(rewards[False]).sum(), rel=1e-3)


def test_the_shipped_settings_are_the_defaults() -> None:
    shipped = settings_of(TrainingSettings, composed_config("kalshi_train", ["output=x"]))
    plain = TrainingSettings(output="x")
    assert shipped.learner == plain.learner
    assert shipped.episode.market == plain.episode.market
    assert shipped.episode.fees.by_default() == plain.episode.fees.by_default()
    for name in ("steps", "markets", "seed", "recorded", "folder", "train_events", "resume"):
        assert getattr(shipped, name) == getattr(plain, name)
    for name in ("starting_cash", "price_style", "fixed_size", "limits", "reward", "life"):
        assert getattr(shipped.episode, name) == getattr(plain.episode, name)
