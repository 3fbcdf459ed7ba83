"""A checkpoint holds numbers and no code, and one of another action space is refused in a line."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from event_contracts.trading.policies import ABOUT, About, load_network

WIDTH = len(About().features)


def layers(rng: np.random.Generator, actions: int = 25, width: int = WIDTH) -> dict[str, Any]:
    shapes = {
        "mlp_extractor.policy_net.0": (8, width),
        "mlp_extractor.policy_net.2": (8, 8),
        "action_net": (actions, 8),
    }
    found: dict[str, Any] = {}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        found[f"{name}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)
    return found


def written(path: Path, tensors: dict[str, Any], about: Any = None) -> Path:
    header = json.dumps(asdict(About()) if about is None else about)
    save_file(tensors, path, {ABOUT: header})
    return path


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 20))
def test_only_allowed_actions_are_chosen_each_as_if_it_stood_alone(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    path = written(tmp_path_factory.mktemp("c") / "one.safetensors", layers(rng))
    policy = load_network(path)
    assert policy.name == "one"
    seen = rng.normal(size=(count, WIDTH)).astype(np.float32)
    allowed = rng.random((count, 25)) < 0.3
    allowed[:, 0] = True
    chosen = policy.actions(seen, allowed)
    assert allowed[np.arange(count), chosen].all()
    alone = [policy.actions(seen[k : k + 1], allowed[k : k + 1])[0] for k in range(count)]
    assert chosen.tolist() == alone


def test_a_checkpoint_of_five_actions_is_refused_in_a_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = written(tmp_path / "old.safetensors", layers(rng, actions=5))
    with pytest.raises(ValueError, match="a checkpoint of 5 actions, this system has 25"):
        load_network(path)


def test_an_archive_of_the_past_is_refused_without_running_anything_of_it(tmp_path: Path) -> None:
    path = tmp_path / "old.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps({"action_space": {":serialized:": "gAWV", "n": "5"}}))
        archive.writestr("policy.pth", b"not read")
    with pytest.raises(ValueError, match=r"an archive of another program; .* of 25 actions"):
        load_network(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, a: t.pop("action_net.weight"), "action_net.weight is missing"),
        (lambda t, a: a.update(features=["price"]), "other features than those of this version"),
        (lambda t, a: a.pop("features") and a.update(other=1), "does not say what it was trained"),
        (lambda t, a: t.update(layers(np.random.default_rng(0), width=7)), "has shape"),
        (lambda t, a: t["action_net.bias"].fill(np.nan), "numbers that are not finite"),
        (lambda t, a: t.update({"action_net.weight": np.zeros((25, 8), np.int64)}), "has shape"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_a_line(
    tmp_path: Path, change: Any, says: str
) -> None:
    tensors = layers(np.random.default_rng(0))
    about = asdict(About())
    change(tensors, about)
    path = written(tmp_path / "one.safetensors", tensors, about)
    with pytest.raises(ValueError, match=says) as caught:
        load_network(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


def test_what_is_no_checkpoint_is_refused_in_a_line(tmp_path: Path) -> None:
    for content in (b"", b"\x80\x04pickle", b"text" * 100):
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no checkpoint"):
            load_network(path)
    with pytest.raises(ValueError, match="no checkpoint"):
        load_network(tmp_path / "missing")
