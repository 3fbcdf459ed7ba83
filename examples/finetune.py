r"""Fine-tune a checkpoint on the user's bars with `fit` of the chronos library.

    .venv/bin/python examples/finetune.py outputs/example-bars outputs/example-finetuned --steps 5
    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-03-28 forecaster.model=outputs/example-finetuned/model \
        output=outputs/example-finetuned-run

The checkpoint is trained only on bars up to 1 March 2024; the backtest begins after that. On real
bars, fine-tuning did not improve calibrated forecasts (docs/STUDIES.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from chronos import Chronos2Pipeline

from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT
from forecasting.forecast import HORIZON
from trainingdata.bars import CLOSE
from trainingdata.source import DataSettings, resolve_range

CONTEXT = 100  # own bars that a forecast sees, `forecaster.context_length`
BATCH_SIZE = 32  # windows in a training step


def main() -> None:
    """Parse the command line, fine-tune the checkpoint, and print the setting that uses it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bars", help="folder of CSV or Parquet files, one a symbol")
    parser.add_argument("output", type=Path, help="folder; the checkpoint lies in its model")
    parser.add_argument("--model", default=str(BUNDLED_CHECKPOINT), help="folder or hub id")
    parser.add_argument("--end", default="2024-03-01", help="last day that is learned from")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=1e-5, help="learning rate")
    words = parser.parse_args()

    read = DataSettings(dir=(words.bars,)).load_panel([], None, words.end)
    bars = read.slice_until(resolve_range(read, None, words.end)[1])
    closes = [
        bars.bars_of_symbol(symbol)[1][:, CLOSE] for symbol in range(len(bars.symbols))
    ]  # USD
    pipeline = Chronos2Pipeline.from_pretrained(words.model, use_safetensors=True)
    pipeline.fit(
        [{"target": series} for series in closes],
        prediction_length=HORIZON,
        context_length=CONTEXT,
        min_past=CONTEXT,
        learning_rate=words.rate,
        num_steps=words.steps,
        batch_size=BATCH_SIZE,
        output_dir=words.output,
        finetuned_ckpt_name="model",
        seed=0,
    )
    print(f"forecaster.model={words.output / 'model'}")  # noqa: T201


if __name__ == "__main__":
    main()
