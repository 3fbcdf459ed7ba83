"""A checkpoint holds numbers and no code, and is refused in a line where it does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from event_contracts.simulation.learner import Learner, learner_of
from event_contracts.simulation.settings import LearnerSettings
from event_contracts.simulation.synthetic import SyntheticMarket
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trade import KalshiTradingSettings, policy_of
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.policies import About, load_network, read_checkpoint
from foundation.errors import InputError
from tests.event_contracts.checkpoints import checkpoint, layers, written

Tensors = dict[str, Any]
Damage = Callable[[Tensors, dict[str, Any]], object]
MARKET = SyntheticMarket(steps=10)


def learner(seed: int = 3, **more: Any) -> Learner:
    quick = LearnerSettings(**{"rollout": 4, "batch": 16, "epochs": 1, **more})
    return learner_of(VectorKalshiEnv(4, market=MARKET), quick, seed)


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(1, 20))
def test_of_the_allowed_actions_the_networks_first_is_chosen_whoever_stands_beside(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    policy = load_network(checkpoint(tmp_path_factory.mktemp("c") / "one.safetensors", seed))
    assert policy.name == "one"
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(count, len(policy.about.features))).astype(np.float32)
    allowed = rng.random((count, 25)) < 0.3
    allowed[:, 0] = True
    chosen = policy.actions(seen, allowed)
    values, tensors = seen, layers(seed)
    for name in ("mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2"):
        values = np.tanh(values @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"])
    values = values @ tensors["action_net.weight"].T + tensors["action_net.bias"]
    assert chosen.tolist() == np.where(allowed, values, -np.inf).argmax(axis=1).tolist()
    alone = [policy.actions(seen[k : k + 1], allowed[k : k + 1])[0] for k in range(count)]
    assert chosen.tolist() == alone


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, a: t.pop("action_net.weight"), "action_net.weight is missing"),
        (lambda t, a: a.update(features=["price"]), "trained on other features"),
        (lambda t, a: a.pop("features") and a.update(other=1), "does not say what it was trained"),
        (lambda t, a: t.update(layers(width=7)), "has shape"),
        (lambda t, a: t.update(layers(actions=5)), "a checkpoint of 5 actions, this system has 25"),
        (lambda t, a: t["action_net.bias"].fill(np.nan), "numbers that are not finite"),
        (lambda t, a: t.update({"action_net.weight": np.zeros((25, 8), np.int64)}), "has shape"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_a_line(
    tmp_path: Path, change: Damage, says: str
) -> None:
    tensors, about = layers(), asdict(About())
    change(tensors, about)
    path = written(tmp_path / "one.safetensors", tensors, about)
    with pytest.raises(InputError, match=rf"{path}: .*{says}") as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_is_refused_without_running_anything_of_it(tmp_path: Path) -> None:
    for content in (b"", b"\x80\x04pickle", b"text" * 100):
        (tmp_path / f"{len(content)}").write_bytes(content)
    for name in ("0", "8", "400", "missing"):
        with pytest.raises(InputError, match=r"no checkpoint"):
            load_network(tmp_path / name)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that can be gone on from."""
    begun = learner()
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
def test_a_checkpoint_that_is_not_whole_is_not_gone_on_from(
    sound: Path, damage: Damage, tmp_path: Path
) -> None:
    with safe_open(sound, "np") as file:
        header = dict(file.metadata())
        tensors = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
    about = json.loads(header["kalshi"])
    damage(tensors, about)
    path = written(tmp_path / "x.safetensors", tensors, about)
    with pytest.raises(InputError, match=rf"^{path}: [^\n]*$"):
        learner().load(Path(path))


def test_what_is_saved_is_all_that_is_known_of_a_learner(sound: Path, tmp_path: Path) -> None:
    """A seed decides everything, and what is gone on with draws otherwise than where it began."""
    again, another = learner(), learner(9)
    again.learn(64, lambda steps, figures: None)
    states = []
    for each in (again, another):
        before = each.draws.get_state()
        if each is another:
            each.load(sound)
            assert not each.draws.get_state().equal(before)
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
def test_a_policy_sends_the_orders_that_it_was_trained_with_and_no_others(
    name: str, value: Any, said: dict[str, Any], tmp_path: Path
) -> None:
    policy = checkpoint(tmp_path / "one", **said)
    with pytest.raises(InputError, match=rf"^{policy}: trained with {name}=[^\n]*$"):
        policy_of(KalshiTradingSettings(policy=policy))
    same = KalshiTradingSettings(policy=policy, **{name: value})
    assert policy_of(same)(same.space_at(FeeRules()), 500.0).name == "one"
