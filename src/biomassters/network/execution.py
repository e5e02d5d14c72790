"""Two ways to compute the network for less: activation recomputation and ``torch.compile``.

``AgbNet.configure`` sets them as ``ExecutionOptions`` say; neither changes weights or results.
What else those options choose is in ``cpu``.
"""

import copy
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from timm.models import FeatureListNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from biomassters.messages import first_line
from biomassters.network.decoder import Decoder
from biomassters.network.encoder import Encoder

logger = logging.getLogger(__name__)


# ---- Activation recomputation (activation checkpointing) -----------------------------------


def recompute_levels(encoder: Encoder, decoder: Decoder, levels: Collection[int]) -> None:
    """Recompute the activations of these levels, 0 to 4, in the backward pass, and of no others.

    Level 0 is stride 2 … level 4 stride 32. A level holds the encoder's stages that lead to its
    features and the decoder block that joins them; level 0 also the last block, at stride 1. The
    encoder's stages are left alone where timm doesn't hand them out one by one, as it does for
    the EfficientNet, MobileNet and ResNet families.
    """
    blocks = list(decoder.blocks)
    for level, encoding in enumerate(_encoder_stages(encoder.model)):
        decoding = blocks[3 - level : 4 - level] if level < 4 else []
        last = blocks[4:] if level == 0 else []
        for module in (*encoding, *decoding, *last):
            module.__dict__.pop("forward", None)
            if level in levels:
                module.__dict__["forward"] = _Recomputed(module)


def _encoder_stages(features: nn.Module) -> list[list[nn.Module]]:
    info: Any = features.feature_info
    names: list[str] = info.module_name()
    if all(name.startswith("blocks.") for name in names):
        children = list(features.blocks)  # type: ignore[arg-type]
        ends = [int(name.split(".")[1]) for name in names]
    elif isinstance(features, FeatureListNet):
        keys = list(features.keys())
        children = list(features.values())
        ends = [keys.index(name.replace(".", "_")) for name in names]
    else:
        return [[] for _ in names]
    starts = [0, *(end + 1 for end in ends[:-1])]
    # A single layer gains nothing, and an activation in place would overwrite its own input.
    return [
        [child for child in children[start : end + 1] if list(child.children())]
        for start, end in zip(starts, ends, strict=True)
    ]


class _Recomputed:
    """The forward of a module, forgotten after the forward pass and repeated in the backward."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *args: Any) -> Tensor:
        forward: Callable[..., Tensor] = type(self.module).forward
        if not (self.module.training and torch.is_grad_enabled()):
            return forward(self.module, *args)
        result: Tensor = checkpoint(
            forward, self.module, *args, use_reentrant=False, context_fn=self._contexts
        )
        return result

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _unchanged_statistics(self.module)


@contextmanager
def _unchanged_statistics(module: nn.Module) -> Iterator[None]:
    """Repeat a forward pass without counting the batch twice in BatchNorm's statistics."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    before = [(norm.momentum, copy.deepcopy(norm.num_batches_tracked)) for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and batches is not None:
                norm.num_batches_tracked.copy_(batches)


# ---- torch.compile -------------------------------------------------------------------------


class CompiledOrPlain:
    """A part of the network, compiled at its first call; plain from then on if that fails.

    It takes images, or features of several levels; the log says once, by its name, that it runs
    plainly.
    """

    def __init__(self, part: Callable[..., Any], name: str) -> None:
        self.part, self.name = part, name
        self._compiled: Callable[..., Any] | None = None
        self._plain = False

    def __call__(self, images: Tensor | Sequence[Tensor]) -> Any:
        """What the part gives."""
        if self._plain:
            return self.part(images)
        try:
            if self._compiled is None:
                _check_compiler((images if isinstance(images, Tensor) else images[0]).device)
                self._compiled = torch.compile(self.part, dynamic=None)
            return self._compiled(images)
        except Exception as error:  # a compiler fails in any way there is
            self._plain = True
            why = first_line(error)
            logger.warning("The %s runs uncompiled: torch.compile failed (%s).", self.name, why)
            return self.part(images)

    def __reduce__(self) -> tuple[Any, ...]:  # copies and pickles compile for themselves
        return CompiledOrPlain, (self.part, self.name)


def _check_compiler(device: torch.device) -> None:
    """Compile something small, forward and backward, or raise what the compiler raises.

    The backward pass of a network is compiled when it first runs, too late to fall back.
    """
    x = torch.ones(8, device=device, requires_grad=True)
    torch.compile(lambda x: torch.nn.functional.gelu(x).sum())(x).backward()
