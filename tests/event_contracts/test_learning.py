"""Training leaves a checkpoint without code, goes on from it, and learns what there is."""

# Private access: sampled actions and learning batches are not returned by the learner.
from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from event_contracts.settings import KalshiTradingSettings
from event_contracts.simulation.learner import (
    Learner,
    Rollout,
    RolloutCollector,
    TrainingBatch,
    build_learner,
    estimate_advantages,
    surrogate_loss_and_entropy,
)
from event_contracts.simulation.settings import LearnerSettings, SyntheticSessionModel
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trade import build_policy
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.policies import (
    ACTION_LAYER_PREFIX,
    CheckpointInfo,
    load_network_policy,
    read_checkpoint,
)
from event_contracts.trading.rules import ORDER_RULES_VERSION
from event_contracts.train import CHECKPOINT_FILE, UPDATE_STATISTICS_FILE
from foundation.arrays import Mask
from foundation.errors import InputError
from tests.e2e.refused import refusal_of, started
from tests.event_contracts.checkpoints import checkpoint, layers, written
from tests.support.commands import overridden
from tests.support.messages import check_message, refused

Tensors = dict[str, Any]
Damage = Callable[[Tensors, dict[str, Any]], object]
MARKET = SyntheticSessionModel(steps=10)
NOT_READ = "(?<=not a readable checkpoint: ).*"  # the words of safetensors


def begun_anew(seed: int = 3, **more: Any) -> Learner:
    quick = LearnerSettings(**{"rollout": 4, "batch": 16, "epochs": 1, **more})
    return build_learner(VectorKalshiEnv(4, market=MARKET), quick, seed)


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(1, 20))
def test_allowed_action_of_highest_value_is_chosen(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    policy = load_network_policy(checkpoint(tmp_path_factory.mktemp("c") / "one.safetensors", seed))
    assert policy.name == "one"
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(count, len(policy.checkpoint_info.features))).astype(np.float32)
    allowed = rng.random((count, 25)) < 0.3
    allowed[:, 0] = True
    chosen = policy.choose_actions(observations, allowed)
    values, tensors = observations, layers(seed)
    for name in ("mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2"):
        values = np.tanh(values @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"])
    values = values @ tensors["action_net.weight"].T + tensors["action_net.bias"]
    assert chosen.tolist() == np.where(allowed, values, -np.inf).argmax(axis=1).tolist()
    alone = [
        policy.choose_actions(observations[k : k + 1], allowed[k : k + 1])[0] for k in range(count)
    ]
    assert chosen.tolist() == alone


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda t, a: t.pop("action_net.weight"), ("action_net.weight",)),
        (lambda t, a: a.pop("order_rules"), ("1", "2")),
        (lambda t, a: a.update(features=["price"]), ()),
        (lambda t, a: a.pop("features") and a.update(other=1), ()),
        (lambda t, a: t.update(layers(width=7)), ()),
        (lambda t, a: t.update(layers(actions=5)), ("5", "25")),
        (lambda t, a: t["action_net.bias"].fill(np.nan), ()),
        (lambda t, a: t.update({"action_net.weight": np.zeros((25, 8), np.int64)}), ()),
        (b"", ()),
        (b"\x80\x04pickle", ()),
        (b"text" * 100, ()),
    ],
)
def test_invalid_checkpoint_is_refused_in_one_line(
    tmp_path: Path, change: Damage | bytes, facts: tuple[str, ...]
) -> None:
    """No code of the checkpoint is executed."""
    path = tmp_path / "one.safetensors"
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        tensors, about = layers(), asdict(CheckpointInfo(order_rules=ORDER_RULES_VERSION))
        change(tensors, about)
        written(path, tensors, about)
    with refused(InputError, path, *facts, varies=NOT_READ) as caught:
        load_network_policy(path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that can be gone on from."""
    begun = begun_anew()
    begun.learn(64, lambda steps, figures: None)
    path = tmp_path_factory.mktemp("sound") / "sound.safetensors"
    begun.save(path)
    return path


@pytest.mark.parametrize(
    "damage",
    [
        lambda t, a: t.pop("value_net.bias"),
        lambda t, a: t.pop("optimizer.step"),
        lambda t, a: t.update({"optimizer.exp_avg": np.zeros((2, 2), np.float32)}),
        lambda t, a: t["value_net.weight"].fill(np.nan),
        lambda t, a: t["optimizer.exp_avg_sq"].fill(-1.0),
        lambda t, a: a.update(steps=-5),
        lambda t, a: a.update(fixed_size=10),
    ],
)
def test_incomplete_checkpoint_cannot_be_resumed(
    sound: Path, damage: Damage, tmp_path: Path
) -> None:
    with safe_open(sound, "np") as file:
        header = dict(file.metadata())
        tensors = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
    about = json.loads(header["kalshi"])
    damage(tensors, about)
    path = written(tmp_path / "x.safetensors", tensors, about)
    with refused(InputError, path):
        begun_anew().load(Path(path))


def test_saved_checkpoint_restores_the_complete_learner_state(sound: Path, tmp_path: Path) -> None:
    """The seed determines everything; a resumed learner continues the random sequence instead of
    restarting it.
    """
    again, another = begun_anew(), begun_anew(9)
    again.learn(64, lambda steps, figures: None)
    states = []
    for each in (again, another):
        before = each.generator.get_state()
        if each is another:
            each.load(sound)
            assert not each.generator.get_state().equal(before)
        each.save(tmp_path / "x")
        states.append(read_checkpoint(tmp_path / "x"))
    weights, about = read_checkpoint(sound)
    assert any(name.startswith("optimizer.") for name in weights)
    for found, said in states:
        assert said.steps == about.steps == 64
        assert set(found) == set(weights)
        assert all(np.array_equal(values, found[name]) for name, values in weights.items())


STYLES = {**dict.fromkeys(("BUY_YES", "BUY_NO", "SELL_YES"), "aggressive"), "SELL_NO": "mid"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fixed_size", 10, {"fixed_size": 10}),
        ("position_sizes", (1, 2, 3, 4, 5), {"position_sizes": (1, 2, 3, 4, 5)}),
        ("life", 20, {"settings": {"episode": {"life": 20}}}),
        ("price_style", "mid", {"settings": {"episode": {"price_style": "mid"}}}),
        ("price_style", STYLES, {"settings": {"episode": {"price_style": STYLES}}}),
    ],
)
def test_policy_requires_the_settings_it_was_trained_with(
    name: str, value: Any, said: dict[str, Any], tmp_path: Path
) -> None:
    policy = checkpoint(tmp_path / "one", **said)
    with refused(InputError, policy, name):
        build_policy(KalshiTradingSettings(policy=policy))
    same = KalshiTradingSettings(policy=policy, **{name: value})
    assert build_policy(same)(same.build_action_space(FeeRules()), 500.0).name == "one"


WIDTH = 22


def test_surrogate_is_clipped_outside_the_likelihood_ratio_range() -> None:
    """Two equally likely actions have ratios 1 and 1.5; the second counts as 1.2 for a gain and
    fully for a loss.
    """
    lessons = TrainingBatch(
        observations=torch.zeros(3, WIDTH),
        masked_actions=torch.zeros(3, 2),
        action_codes=torch.tensor([[0], [1], [1]]),
        log_probs=torch.tensor([1 / 2, 1 / 3, 1 / 3]).log(),
        advantages=torch.tensor([1.0, 10.0, -10.0]),
        returns=torch.zeros(3),
    )
    surrogate, entropy = surrogate_loss_and_entropy(torch.zeros(3, 2), lessons, 0.2)
    assert surrogate.item() == pytest.approx(-(1 + 12 - 15) / 3)
    assert entropy.item() == pytest.approx(np.log(2))


def test_advantage_accumulation_stops_at_market_settlement() -> None:
    """By hand, with a discount and a trace of 1/2: 8 + 4/2 - 2, and so on backwards in time."""
    rewards = np.array([[1.0], [2.0], [8.0]], np.float32)
    values = np.array([[2.0], [4.0], [2.0], [4.0]], np.float32)
    going = np.zeros((3, 1), dtype=bool)
    found = estimate_advantages(rewards, values, going, 0.5, 0.5)
    assert found[:, 0].tolist() == [1 + 2 - 2 + 1 / 4, 2 + 1 - 4 + 8 / 4, 8 + 2 - 2]
    going[1] = True
    assert estimate_advantages(rewards, values, going, 0.5, 0.5)[:, 0].tolist() == [0.5, -2.0, 8.0]


@pytest.fixture
def learner() -> Learner:
    quick = LearnerSettings(rollout=8, batch=64, layers=(8,))
    return build_learner(VectorKalshiEnv(64, market=SyntheticSessionModel(steps=10)), quick, seed=3)


def test_allowed_actions_are_sampled_by_their_probability(learner: Learner) -> None:
    observations = np.repeat(np.linspace(-1, 1, WIDTH, dtype=np.float32)[None], 20_000, axis=0)
    allowed = np.zeros((len(observations), 25), dtype=bool)
    allowed[:, [0, 3, 20]] = True
    with torch.no_grad():
        learner.networks.named_parameters[f"{ACTION_LAYER_PREFIX}bias"][:] = torch.linspace(
            0, 3, 25
        )
        codes, likelihoods = learner._choose_actions(observations, allowed)
    assert set(codes) == {0, 3, 20}
    for code in (0, 3, 20):
        chance = np.exp(likelihoods[codes == code])
        assert np.ptp(chance) == 0
        assert (codes == code).mean() == pytest.approx(chance[0], abs=0.015)


def test_rollout_and_training_action_likelihoods_are_equal(learner: Learner) -> None:
    """Before the first step of the optimizer every ratio is 1, so the surrogate is the mean."""
    with torch.no_grad():
        played: Rollout = learner.rollout_collector.collect_rollout(learner._choose_actions)
        lessons = learner._build_training_batch(played)
        logits = learner.networks.logits(lessons.observations, lessons.masked_actions)
        surrogate, _ = surrogate_loss_and_entropy(logits, lessons, 0.2)
    torch.testing.assert_close(surrogate, -lessons.advantages.mean(), atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_network_learns_to_earn_from_an_edge() -> None:
    """The result is the mean USD of an episode on synthetic markets with an edge of 10 cents."""
    env = VectorKalshiEnv(512, market=SyntheticSessionModel(mispricing=0.1), reward="log_wealth")
    learner = build_learner(env, LearnerSettings(), seed=0)
    earned: list[float] = []
    learner.learn(500_000, lambda steps, figures: earned.append(figures.get("earned", np.nan)))
    known = [each for each in earned if np.isfinite(each)]
    assert known[0] + 1 < known[-1] > 8


COMMAND = "event_contracts.train"
QUICK = (
    *("markets=8", "steps=512", "checkpoint_steps=128", "learner.rollout=16", "learner.batch=64"),
    *("learner.epochs=1", "episode.market.steps=20", "output=deep/in/out"),
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(*words: str) -> str:
    return refusal_of(COMMAND, *overridden(QUICK, words))


@pytest.mark.slow
def test_training_writes_a_loadable_and_resumable_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert started(COMMAND, *overridden(QUICK, ["output=one", "episode.reward=log_wealth"])) == 0
    assert "512 steps, in rounds of 128; " in capsys.readouterr().out
    path = Path("one") / CHECKPOINT_FILE
    policy = load_network_policy(path)
    assert policy.checkpoint_info.steps == 512
    env = VectorKalshiEnv(3, market=SyntheticSessionModel(steps=10))
    observations, _ = env.reset(seed=0)
    for _ in range(9):
        observations, *_ = env.step(policy.choose_actions(observations, env.action_masks()))
    updates = [
        json.loads(line) for line in Path("one", UPDATE_STATISTICS_FILE).read_text().splitlines()
    ]
    assert [each["steps"] for each in updates] == [128, 256, 384, 512]
    assert {"earned", "orders", "size", "share_5", "entropy"} <= set().union(*updates)
    check_message(refusal("output=two", f"resume={path}"), "steps", path, "512")
    on = overridden(QUICK, ["output=two", f"resume={path}", "steps=640"])
    assert started(COMMAND, *on) == 0
    about = load_network_policy(Path("two", CHECKPOINT_FILE)).checkpoint_info
    assert (about.steps, [run["output"] for run in about.training_run_settings]) == (
        640,
        ["two", "one"],
    )
    assert json.loads(Path("two", UPDATE_STATISTICS_FILE).read_text())["steps"] == 640


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["resume=nowhere"], ("nowhere",)),
        (["train_events=99", "folder=."], (".",)),
        (["episode.fixed_size=7"], ("episode.fixed_size", "7")),
        (["output=there"], (CHECKPOINT_FILE,)),
        (["output=mine"], ()),
    ],
)
def test_invalid_training_is_refused_and_nothing_written(
    words: list[str], facts: tuple[str, ...]
) -> None:
    for name in ("there", "mine"):  # an earlier run's
        Path(name).mkdir()
        Path(name, UPDATE_STATISTICS_FILE).touch()
    Path("there", CHECKPOINT_FILE).mkdir()
    Path("mine", CHECKPOINT_FILE).write_text("of another run")
    before = sorted(Path().rglob("*"))
    check_message(refusal(*words), *facts, varies=NOT_READ)
    assert sorted(Path().rglob("*")) == before
    assert Path("mine", CHECKPOINT_FILE).read_text() == "of another run"


def any_allowed(observations: np.ndarray, allowed: Mask) -> tuple[np.ndarray, np.ndarray]:
    """An allowed action in front of every market, and the logarithm of its likelihood."""
    rng = np.random.default_rng(observations.view(np.uint32).ravel()[:8])
    codes = np.array([rng.choice(np.flatnonzero(row)) for row in allowed])
    return codes, -np.log(allowed.sum(axis=1)).astype(np.float32)


def test_potential_shaping_leaves_total_reward_unchanged() -> None:
    """Without discounting, the shaped rewards of an episode sum to the unshaped ones."""
    market = SyntheticSessionModel(steps=30, mispricing=0.1)
    env = VectorKalshiEnv(16, market=market, reward="log_wealth", life=20)
    markets = RolloutCollector(env, LearnerSettings(discount=1.0, rollout=15), seed=5)
    parts = [markets.collect_rollout(any_allowed) for _ in range(2)]
    assert [part.terminated.sum() for part in parts] == [0, 16]
    assert parts[1].terminated[-1].all()
    assert np.array_equal(parts[0].observations[-1], parts[1].observations[0])
    shaped = np.concatenate([part.rewards for part in parts])
    assert markets.episode_results == pytest.approx(shaped.sum(axis=0), abs=1e-3)
    plain = VectorKalshiEnv(16, market=market, reward="log_wealth", life=20)
    plain.reset(seed=list(range(5, 21)))
    codes = np.concatenate([part.action_codes for part in parts])
    unshaped = 100 * np.array([plain.step(row)[1] for row in codes.reshape(-1, 16)])
    assert unshaped.sum(axis=0) == pytest.approx(shaped.sum(axis=0), abs=1e-3)
    assert np.abs(unshaped).sum() != pytest.approx(np.abs(shaped).sum(), rel=1e-3)


def test_full_disk_ends_training_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(learner: Learner, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Learner, "save", full)
    check_message(refusal("output=o", "steps=128"))
