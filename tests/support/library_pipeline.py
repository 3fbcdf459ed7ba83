"""The Chronos library's own pipeline, which takes five seconds to import."""

from __future__ import annotations

import importlib
from typing import Any

from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT


def load_library_pipeline() -> Any:
    """Return the library's pipeline with the weights of the included checkpoint."""
    library = importlib.import_module("chronos")
    return library.Chronos2Pipeline.from_pretrained(str(BUNDLED_CHECKPOINT))
