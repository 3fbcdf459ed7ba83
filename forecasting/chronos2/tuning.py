"""Fine-tuning of a checkpoint on bars, by a loss in units of return; resumable at any time.

The loss is the pinball loss of the log return after each step over the deviation of the last 100
own bars, which is known when a forecast is issued: every symbol and every time weighs alike. The
library's own loss is in deviations of the context's prices, where a trend makes returns small.

N windows with a known outcome, B windows a batch, L bars of a context, H steps, Q levels.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from forecasting.chronos2.checkpoint import Checkpoint
from forecasting.chronos2.compilation import out_of_memory
from forecasting.chronos2.devices import device_of
from forecasting.chronos2.learning import cosine, pinball
from forecasting.chronos2.library import load
from forecasting.chronos2.profile import Device, check_device
from forecasting.forecast import HORIZON, Progress, silent
from forecasting.windows import Windows
from foundation.arrays import Array, Index, Instants
from foundation.errors import InputError, refuse_outside
from foundation.files import put_whole
from trainingdata.bars import Bars

if TYPE_CHECKING:
    from chronos.chronos2.model import Chronos2Model

log = logging.getLogger(__name__)

UNIT_BARS = 100  # own bars of the deviation that the loss is measured in, as scores are
SMALLEST_RATIO = 1e-3  # of a quantile to the last close, where the model answers less
WARMUP = 0.1  # share of the steps
# What the library's own `fit` adapts.
ADAPTED = (
    "self_attention.q",
    "self_attention.v",
    "self_attention.k",
    "self_attention.o",
    "output_patch_embedding.output_layer",
)
STATE = "state.safetensors"
ABOUT = "finetune"  # key of its header


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """How a checkpoint is fine-tuned.

    context: own bars that a forecast sees, 3 … 8,192.
    steps: batches.
    batch: windows in each.
    rate: learning rate at its highest; none: 1e-4, of adapters 5e-4.
    lora: rank of the adapters that are trained (LoRA); none: all weights are.
    seed: of batches and adapters.
    every: steps between saved states.
    device: where it computes.
    """

    context: int = 100
    steps: int = 300
    batch: int = 256
    rate: float | None = None
    lora: int | None = None
    seed: int = 0
    every: int = 50
    device: Device = "auto"

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            context=(3, 8192),
            steps=(1, 1_000_000),
            batch=(1, 65_536),
            seed=(0, 2**32 - 1),
            every=(1, 1_000_000),
        )
        check_device("device", self.device)
        if self.rate is not None:
            refuse_outside(self, rate=(1e-9, 1))
        if self.lora is None:
            return
        refuse_outside(self, lora=(1, 1024))
        if find_spec("peft") is None:
            raise InputError(
                "lora: peft is not installed; install the extra finetune"
                " (pip install 'kelly-chronos[finetune]'), or leave it out to train all weights"
            )

    @property
    def highest_rate(self) -> float:
        """The learning rate at its highest."""
        return self.rate or (1e-4 if self.lora is None else 5e-4)


@dataclass(frozen=True, eq=False, slots=True)
class Examples:
    """Windows whose 24 steps are all known.

    closes: closes of all symbols one behind the other, in USD.
    issuing: [N] the issuing bar's place among them.
    issued_at: [N] when it became known.
    unit: [N] deviation of a bar's log return over the last 100 own bars, above 0.
    length: bars of a context.
    """

    closes: Array
    issuing: Index
    issued_at: Instants
    unit: Array
    length: int

    @classmethod
    def of(cls, bars: Bars, since: np.datetime64, length: int) -> Examples:
        """All that are issued from `since` on; of bars that stood still none."""
        windows = Windows.of(bars, since, length)
        counts = np.array([len(closes) for closes in windows.closes])
        begin = (np.cumsum(counts) - counts)[windows.symbol]
        unit = np.zeros(len(windows))
        for closes, part in zip(windows.closes, windows.of_symbols(), strict=True):
            squares = np.append(0.0, np.cumsum(np.diff(np.log(closes)) ** 2))
            end = windows.last[part]
            first = np.maximum(end - UNIT_BARS, 0)
            unit[part] = np.sqrt((squares[end] - squares[first]) / np.maximum(end - first, 1))
        ended = windows.last + HORIZON < counts[windows.symbol]
        # Rounding leaves a little of a sum that is none: such a unit would outweigh all others.
        chosen = ended & (windows.issued_at >= since) & (unit > 1e-7)
        return cls(
            closes=np.concatenate(windows.closes),
            issuing=(begin + windows.last)[chosen],
            issued_at=windows.issued_at[chosen],
            unit=unit[chosen],
            length=length,
        )

    def __len__(self) -> int:
        return len(self.issuing)

    def batch(self, numbers: Index) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Context [B, L] over its last close, log returns [B, 1, H] and unit [B] of windows."""
        issuing = self.issuing[numbers]
        places = issuing[:, None] + np.arange(1 - self.length, HORIZON + 1)
        ratio = self.closes[places] / self.closes[issuing, None]
        arrays = (
            ratio[:, : self.length],
            np.log(ratio[:, None, self.length :]),
            self.unit[numbers],
        )
        context, futures, unit = (torch.from_numpy(a.astype(np.float32)) for a in arrays)
        return context, futures, unit


def check_base(base: Checkpoint, context: int) -> None:
    """Refuse a checkpoint that cannot be fine-tuned here.

    Raises
    ------
    InputError
        for one that answers 24 steps in several passes, or has a shorter context.
    """
    if not base.rebuilt:
        raise InputError(
            f"model: {base.name} does not answer {HORIZON} steps in one pass of the usual"
            " layers; such a checkpoint is not fine-tuned here"
        )
    if context > base.context:
        raise InputError(f"context: {context} exceeds the model's {base.context}")


def fine_tune(
    base: Checkpoint,
    examples: Examples,
    settings: TuningSettings,
    place: Path,
    progress: Progress = silent,
    work: str = "steps",
) -> list[float]:
    """Fine-tune a checkpoint and write the whole of it to `place/model`; the loss of each step.

    Adapters are merged into the weights. A run that was stopped goes on from `place`, to the same
    weights on the same machine.

    Parameters
    ----------
    base
        that training begins with; nobody may write over it meanwhile.
    examples
        that batches are drawn from.
    place
        folder of the saved state.
    work
        what progress calls the steps.

    Raises
    ------
    InputError
        where a saved state cannot be read, the loss is not finite, or memory runs out.
    """
    device = torch.device(device_of(settings.device))
    # Dropout stays off: few steps on noisy outcomes gain nothing by more noise, and a step then
    # depends on its own draw alone.
    model = load(base, device).model.float().eval()
    trained = _with_adapters(model, settings)
    named = {name: p for name, p in trained.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(named.values(), weight_decay=0.0, betas=(0.9, 0.98))
    losses = _resumed(place / STATE, named, optimizer)
    patches = math.ceil(HORIZON / base.patch)
    levels = list(base.levels)
    warmup = max(1, round(WARMUP * settings.steps))
    groups = torch.arange(settings.batch, device=device)
    progress(work, len(losses), settings.steps)
    for step in range(len(losses), settings.steps):
        # Every batch is a function of seed and step: where a run was stopped makes no difference.
        rng = np.random.default_rng([settings.seed, step])
        numbers = rng.integers(len(examples), size=settings.batch)
        context, futures, unit = (x.to(device) for x in examples.batch(numbers))
        for part in optimizer.param_groups:
            part["lr"] = settings.highest_rate * cosine(step, settings.steps, warmup)
        try:
            answer = trained(
                context=context, group_ids=groups, num_output_patches=patches
            ).quantile_preds
            # Sorted, as forecasts are given out.
            quantiles = answer[:, levels, :HORIZON].sort(dim=1).values
            returns = quantiles.clamp_min(SMALLEST_RATIO).log()
            loss = pinball(returns, futures, unit)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise InputError(
                f"batch: {device.type} has too little memory for {settings.batch} windows; halve it"
            ) from error
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise InputError(
                f"rate: the loss is not finite at step {step + 1} of {settings.steps}; take a lower"
                f" one than {settings.highest_rate:g}, or another base"
            )
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        optimizer.step()
        done = step + 1
        if done % settings.every == 0 or done == settings.steps:
            put_whole(place / STATE, _state(named, optimizer, losses))
            log.info("%s %d of %d, loss %.5f", work, done, settings.steps, losses[-1])
        progress(work, done, settings.steps)
    if settings.lora is not None:
        model = trained.merge_and_unload()
    model.cpu().save_pretrained(place / "model")
    return losses


def _with_adapters(model: Chronos2Model, settings: TuningSettings) -> Any:
    """The model itself, or with adapters, which alone are then trained."""
    if settings.lora is None:
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=settings.lora, lora_alpha=2 * settings.lora, target_modules=list(ADAPTED))
    # Adapters are drawn from torch's own generator, which is put back as it was.
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return get_peft_model(model, config).eval()


def _state(
    named: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, losses: list[float]
) -> bytes:
    """Weights that are trained and the optimiser's moments, with the losses in the header."""
    tensors = {}
    for name, parameter in named.items():
        tensors[f"weight.{name}"] = parameter.detach().contiguous()
        moments = optimizer.state.get(parameter)
        if moments:
            tensors[f"mean.{name}"] = moments["exp_avg"].contiguous()
            tensors[f"square.{name}"] = moments["exp_avg_sq"].contiguous()
    return save(tensors, {ABOUT: json.dumps({"losses": losses})})


def _resumed(
    path: Path, named: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> list[float]:
    """The losses of the steps that are done; weights and optimiser are put where they stood."""
    if not path.exists():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            losses = [float(loss) for loss in json.loads(file.metadata()[ABOUT])["losses"]]
            held = set(file.keys())
            for name, parameter in named.items():
                with torch.no_grad():
                    parameter.copy_(file.get_tensor(f"weight.{name}"))
                if f"mean.{name}" in held:
                    optimizer.state[parameter] = {
                        "step": torch.tensor(float(len(losses))),
                        "exp_avg": file.get_tensor(f"mean.{name}").to(parameter.device),
                        "exp_avg_sq": file.get_tensor(f"square.{name}").to(parameter.device),
                    }
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{path}: the saved state cannot be read ({type(error).__name__}); remove"
            f" {path.parent} to begin anew"
        ) from error
    return losses
