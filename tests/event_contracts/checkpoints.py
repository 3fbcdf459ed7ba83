"""Checkpoints of networks that nobody trained, written anew for tests."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from event_contracts.trading.policies import CHECKPOINT_KEY, CheckpointInfo
from event_contracts.trading.rules import ORDER_RULES_VERSION


def layers(
    seed: int = 0, actions: int = 25, width: int = len(CheckpointInfo().features)
) -> dict[str, Any]:
    """Weights and offsets of a choosing network with two hidden layers."""
    rng = np.random.default_rng(seed)
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


def written(path: Path, tensors: dict[str, Any], about: dict[str, Any]) -> str:
    save_file(tensors, path, {CHECKPOINT_KEY: json.dumps(about)})
    return str(path)


def checkpoint(path: Path, seed: int = 0, **about: Any) -> str:
    """A network, and what it says of its training."""
    said = CheckpointInfo(**{"order_rules": ORDER_RULES_VERSION, **about})
    return written(path, layers(seed, width=len(said.features)), asdict(said))
