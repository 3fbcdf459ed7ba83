"""Train the small checkpoint that ships with the project, on the synthetic prior alone.

    python -m tools.train_checkpoint --output DIR [--steps 10000] [--seed 0]

--output is the folder for weights, configuration and card.
The network is the library's own `Chronos2Model`, so `Chronos2Pipeline.from_pretrained(DIR)` loads
it. A training card (`training.json`: prior, steps, time, loss curve) is written with the weights.
The same seed on the same machine and thread count gives the same weights.
"""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from forecasting.forecast import HORIZON, LEVELS
from foundation.cli import FlagParser
from foundation.errors import InputError
from foundation.files import check_output_folder
from foundation.signals import exit_on_errors
from tools.synthetic_prior import SyntheticPaths, sample_ohlc, sample_paths

if TYPE_CHECKING:
    from chronos.chronos2.model import Chronos2Model

log = logging.getLogger(__name__)

# Futures drawn for each context from the same state: the gradient of the pinball loss is then the
# share of futures below a quantile minus its level, with much less noise than one future has.
FUTURES = 16
GROUPED_SHARE = 0.2  # of batches: open, high, low and close attending to each other
PATCH = 8  # bars
CARD = "training.json"
SHAPE = (
    "Chronos2Model, 3 layers, d_model 128, d_ff 256, 4 heads, patch 8, context up to 512,"
    " 21 quantiles"
)
USUAL_LENGTH = 100  # bars of most contexts: the default of a forecast
OTHER_LENGTHS = (32, 48, 64, 80, 128, 160, 200, 256, 384, 512)


def small_model() -> Chronos2Model:
    """Return an untrained `Chronos2Model`: 3 layers, width 128, patches of 8, 0.73 M parameters."""
    from chronos.chronos2.config import Chronos2CoreConfig
    from chronos.chronos2.model import Chronos2Model

    config = Chronos2CoreConfig(
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=3,
        num_heads=4,
        dropout_rate=0.0,
        chronos_config={
            "context_length": 512,
            "input_patch_size": PATCH,
            "input_patch_stride": PATCH,
            "output_patch_size": PATCH,
            "max_output_patches": 8,
            "quantiles": list(LEVELS),
            "use_arcsinh": True,
            "use_reg_token": True,
            "time_encoding_scale": 512,
        },
        chronos_pipeline_class="Chronos2Pipeline",
    )
    config.architectures = ["Chronos2Model"]
    return Chronos2Model(config)


def train(output: Path, *, steps: int, seed: int, batch: int = 256, rate: float = 2e-3) -> None:
    """Train for `steps` batches and write weights, configuration and training card.

    output: folder of the written files.
    steps, batch: number of batches, and of series in each.
    seed: seed of the series and of the initial weights.
    rate: maximum learning rate.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rng = np.random.default_rng(seed)
    model = small_model()
    initialise(model, torch.Generator().manual_seed(seed))
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: cosine(k, steps))
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    began = time.monotonic()
    for step in range(1, steps + 1):
        context, futures, unit, groups = (x.to(device) for x in draw_batch(rng, batch))
        quantiles = model(
            context=context, group_ids=groups, num_output_patches=HORIZON // PATCH
        ).quantile_preds
        loss = pinball(quantiles, futures, unit)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(float(loss.detach()))
        if step % 100 == 0 or step == steps:
            curve.append((step, float(np.mean(recent))))
            recent.clear()
            seconds = time.monotonic() - began
            log.info("step %d of %d, loss %.5f, %.0f s", step, steps, curve[-1][1], seconds)
    model.eval().cpu().save_pretrained(output)
    card = {
        "model": SHAPE,
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": "synthetic prior of tools/synthetic_prior.py; no market data",
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "futures_per_context": FUTURES,
        "optimizer": f"AdamW {rate}, cosine, clip 1",
        "device": device,
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - began),
        "loss": curve,
    }
    (output / CARD).write_text(json.dumps(card, indent=1) + "\n")


def initialise(model: Chronos2Model, generator: torch.Generator) -> None:
    """Initialise weights by fan-in, smaller before residual sums; the output starts at a normal's.

    A library model made from its configuration is unusable without this.
    """
    # Under transformers 5 the base class leaves every Linear at N(0, factor), whatever its width.
    depth = len(model.encoder.block)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            torch.nn.init.constant_(parameter, 1.0 if "layer_norm" in name else 0.0)
            continue
        deviation = parameter.shape[-1] ** -0.5
        if name.endswith(("self_attention.o.weight", "mlp.wo.weight")):
            deviation /= math.sqrt(2 * depth)
        elif name.endswith("self_attention.q.weight"):
            # The attention's scale is 1: the usual 1/√d goes into the query.
            deviation /= math.sqrt(model.config.d_kv)
        elif name.startswith("output_patch_embedding"):
            deviation *= 0.1
        with torch.no_grad():
            parameter.normal_(0.0, deviation, generator=generator)
    normal = torch.special.ndtri(torch.tensor(LEVELS))
    with torch.no_grad():
        bias = torch.asinh(0.5 * normal).repeat_interleave(model.chronos_config.output_patch_size)
        model.output_patch_embedding.output_layer.bias.copy_(bias)


def pinball(quantiles: torch.Tensor, futures: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Return the mean pinball loss of quantiles [B, Q, H] against futures [B, F, H].

    It is in units of `unit` [B] times √step. Step k weighs 1/√k: an error in the level from which
    the median starts costs most at the first steps.
    """
    levels = torch.tensor(LEVELS, device=quantiles.device)[None, None, :, None]
    root = torch.arange(1, quantiles.shape[-1] + 1, device=quantiles.device).sqrt()
    error = (futures[:, :, None, :] - quantiles[:, None, :, :]) / (unit[:, None, None, None] * root)
    loss = torch.maximum(levels * error, (levels - 1) * error).mean(dim=(0, 1, 2))
    return (loss / root).sum() / (1 / root).sum()


def cosine(step: int, steps: int, warmup: int = 100) -> float:
    """Return the learning-rate factor: linear warm-up, then cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def draw_batch(rng: np.random.Generator, batch: int) -> tuple[torch.Tensor, ...]:
    """Return context [B, L], futures [B, F, 24], unit [B] and group ids [B] of one batch.

    Its series are prices or log prices, single or in OHLC groups.
    """
    length = USUAL_LENGTH
    if rng.random() >= 0.8:
        length = int(rng.choice(OTHER_LENGTHS))
    # Long contexts have fewer rows, so that a batch takes about the same memory and time.
    rows = batch if length <= 128 else batch * 128 // length // 4 * 4
    grouped = rng.random() < GROUPED_SHARE
    if grouped:
        paths = sample_ohlc(rng, rows // 4, length, HORIZON, FUTURES)
        groups = torch.arange(len(paths.context) // 4).repeat_interleave(4)
    else:
        paths = sample_paths(rng, rows, length, HORIZON, FUTURES)
        groups = torch.arange(len(paths.context))
    if rng.random() < 0.5:
        # Clipped, because a path of the prior may exceed the range of the exponential.
        context = np.exp(np.clip(paths.context, -3, 3))
        futures = np.exp(np.clip(paths.futures, -3, 3))
        paths = SyntheticPaths(context, futures, paths.scale)
    arrays = (paths.context, paths.futures, paths.scale)
    return (*(torch.from_numpy(array.astype(np.float32)) for array in arrays), groups)


def main() -> None:
    """Parse the command line and train the checkpoint."""
    parser = FlagParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with exit_on_errors("nothing was written") as folders:
        if arguments.steps < 1:
            raise InputError(f"--steps: {arguments.steps} is below 1")
        if arguments.seed < 0:
            raise InputError(f"--seed: {arguments.seed} is negative")
        check_output_folder(arguments.output, CARD, ("model", "steps"))
        folders.append(arguments.output)
        arguments.output.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        train(arguments.output, steps=arguments.steps, seed=arguments.seed)


if __name__ == "__main__":
    main()
