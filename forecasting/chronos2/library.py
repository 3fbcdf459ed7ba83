"""The library's own Chronos-2: it loads checkpoints, and answers where `network` cannot.

B windows a pass, in groups of G; L bars, H steps, Q levels.
"""

from __future__ import annotations

import json
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from forecasting.chronos2.checkpoint import Checkpoint, Contents
from forecasting.chronos2.compilation import out_of_memory, reason_of
from forecasting.chronos2.network import Network
from forecasting.chronos2.profile import Dtype
from forecasting.forecast import HORIZON
from foundation.errors import InputError
from foundation.figures import counted

if TYPE_CHECKING:
    from chronos.chronos2.model import Chronos2Model

KEPT = 4  # networks of a process; engines that compute in different ways share them


@dataclass(frozen=True, eq=False, slots=True)
class Loaded:
    """A network on a device, and the checkpoint's contents that it was loaded from.

    digest: of these contents.
    """

    network: Network
    digest: str


_kept: OrderedDict[tuple[str, torch.device, Dtype, bool], Loaded] = OrderedDict()


def loaded(checkpoint: Checkpoint, device: torch.device, dtype: Dtype, *, packed: bool) -> Loaded:
    """A network with the weights that lie in the checkpoint now; kept for the next call.

    packed: whether its matrices are packed for a CPU.
    """
    key = checkpoint.digest, device, dtype, packed
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    contents = checkpoint.contents()
    levels = contents.checkpoint.levels
    model = load(contents, device)
    network = Network(model, HORIZON, levels, dtype, device, packed=packed).eval()
    # It is named by what was read, whatever lay there when somebody looked before.
    found = Loaded(network, contents.digest)
    _kept[contents.digest, device, dtype, packed] = found
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return found


def load(contents: Contents, device: torch.device) -> Chronos2Model:
    """The library's model of the contents of a checkpoint, from safetensors only."""
    from chronos.chronos2.model import Chronos2Model
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("chronos").setLevel(logging.WARNING)
    # The library draws what it misses at random and only warns: that is refused below instead.
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    name_of_model = contents.checkpoint.name
    try:
        weights: dict[str, Tensor] = {}
        for name, content in contents.files.items():
            if name.endswith(".safetensors"):
                weights |= tensors_of(content)
        model, loaded = Chronos2Model.from_pretrained(
            None,
            config=Chronos2Model.config_class.from_dict(json.loads(contents.files["config.json"])),
            state_dict=weights,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        model.to(device)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        AssertionError,
        SafetensorError,
    ) as error:
        if out_of_memory(error):
            raise InputError(
                f"forecaster.device: {device.type} has too little memory for {name_of_model}"
            ) from error
        reason = reason_of(error)
        raise InputError(
            f"forecaster.model: {name_of_model} cannot be loaded as Chronos-2: {reason}"
        ) from error
    # Answers that are not finite would be blamed on the bars later.
    loaded["not finite_keys"] = [name for name, tensor in weights.items() if not _finite(tensor)]
    for kind in ("missing", "unexpected", "mismatched", "not finite"):
        if tensors := loaded[f"{kind}_keys"]:
            first = min(each if isinstance(each, str) else each[0] for each in tensors)
            raise InputError(
                f"forecaster.model: {name_of_model} cannot be loaded as Chronos-2: "
                f"{counted(len(tensors), 'tensor')} {kind}: {first}"
            )
    return model


def _finite(tensor: Tensor) -> bool:
    """Whether all its numbers are finite: one pass, which copies nothing."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    return all(math.isfinite(extreme) for extreme in torch.aminmax(tensor))
