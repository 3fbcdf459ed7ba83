"""Training leaves a checkpoint, goes on from it, and learns that there is nothing to earn."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from event_contracts.simulation.learner import Learner, Markets
from event_contracts.simulation.settings import LearnerSettings
from event_contracts.simulation.synthetic import SyntheticMarket
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.policies import load_network
from event_contracts.train import CHECKPOINT, UPDATES
from foundation.arrays import Mask
from tests.commands import overridden
from tests.e2e.refused import refusal_of, started

COMMAND = "event_contracts.train"
QUICK = (
    *("markets=8", "steps=512", "every=128", "learner.rollout=16", "learner.batch=64"),
    *("learner.epochs=1", "episode.market.steps=20", "output=deep/in/out"),
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(*words: str) -> str:
    return refusal_of(COMMAND, *overridden(QUICK, words))


@pytest.mark.slow
def test_a_run_leaves_a_checkpoint_that_plays_and_a_resumed_one_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert started(COMMAND, *overridden(QUICK, ["output=one", "episode.reward=log_wealth"])) == 0
    assert "512 steps, in whole rounds of 128; " in capsys.readouterr().out
    path = Path("one") / CHECKPOINT
    policy = load_network(path)
    assert policy.about.steps == 512
    env = VectorKalshiEnv(3, market=SyntheticMarket(steps=10))
    seen, _ = env.reset(seed=0)
    for _ in range(9):
        seen, *_ = env.step(policy.actions(seen, env.action_masks()))
    updates = [json.loads(line) for line in Path("one", UPDATES).read_text().splitlines()]
    assert [each["steps"] for each in updates] == [128, 256, 384, 512]
    assert {"earned", "orders", "size", "share_5", "entropy"} <= set().union(*updates)
    assert f"steps: {path} has 512 steps already" in refused("output=two", f"resume={path}")
    assert not Path("two", CHECKPOINT).exists()
    on = overridden(QUICK, ["output=two", f"resume={path}", "steps=768"])
    assert started(COMMAND, *on) == 0
    assert load_network(Path("two", CHECKPOINT)).about.steps == 768
    assert json.loads(Path("two", UPDATES).read_text().splitlines()[0])["steps"] == 640
    runs = load_network(Path("two", CHECKPOINT)).about.runs
    assert [run["output"] for run in runs] == ["two", "one"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["resume=nowhere"], "nowhere: no checkpoint"),
        (["train_events=99", "folder=."], "."),
        (["episode.fixed_size=7"], "error: episode.fixed_size: 7"),
        (["output=there"], f"{CHECKPOINT} is a folder, a file's name is needed"),
        (["output=mine"], "is there already"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_line_and_nothing_is_written(
    words: list[str], says: str
) -> None:
    for name in ("there", "mine"):  # an earlier run's
        Path(name).mkdir()
        Path(name, UPDATES).touch()
    Path("there", CHECKPOINT).mkdir()
    Path("mine", CHECKPOINT).write_text("of another run")
    before = sorted(Path().rglob("*"))
    assert says in refused(*words)
    assert sorted(Path().rglob("*")) == before
    assert Path("mine", CHECKPOINT).read_text() == "of another run"


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


def test_a_disk_that_takes_nothing_ends_training_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(learner: Learner, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Learner, "save", full)
    assert "o cannot be written: No space left on device" in refused("output=o", "steps=128")
