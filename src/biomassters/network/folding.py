"""BatchNorm folded into the convolutions before it: the same map with fewer passes over memory.

Used by ``inference/predict`` alone: a folded network can neither be trained nor saved.
"""

import copy
from contextlib import ExitStack

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from biomassters.chips.bands import BAND_NAMES
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.decoder import ConvBnRelu

_PROBE_SIZE = 64
_RELATIVE_TOLERANCE = 1e-6
"""Of features, in float64, where folding moves them by rounding alone."""


def fold_batch_norm(network: AgbNet) -> AgbNet:
    """A copy in evaluation mode, in which BatchNorm has become part of the convolutions.

    In the encoder, which norm follows which convolution is seen by running a small image through
    it, so this works for any backbone; a norm that follows no convolution stays. All of it happens
    in float64 on the CPU: on a GPU, TF32 or autocast would round features by more than any
    tolerance that still finds a mistake. The copy can neither be trained nor saved.

    Raises:
        BadInputError: The encoder's features would change by more than rounding.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    head = folded.segmentation_head.weight
    for part, fold in ((folded.decoder, _fold_decoder), (folded.encoder.model, _fold_encoder)):
        part.to("cpu", torch.float64)
        with torch.autocast("cpu", enabled=False):
            fold(part)
        part.to(head.device, head.dtype)
    folded.is_folded = True
    return folded.configure(network.execution)


def _fold_decoder(decoder: nn.Module) -> None:
    for module in decoder.modules():
        if isinstance(module, ConvBnRelu):
            convolution, norm, _ = module
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            _fold(norm, convolution)
            module[1] = nn.Identity()


def _fold_encoder(features: nn.Module) -> None:
    probe = torch.rand(1, len(BAND_NAMES), _PROBE_SIZE, _PROBE_SIZE, dtype=torch.float64)
    names = {module: name for name, module in features.named_modules()}
    with torch.no_grad():
        unfolded = features(probe)
        for norm, convolution in _pairs(features, probe):
            _fold(norm, convolution)
            rest = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
            features.set_submodule(names[norm], rest)
        same = all(
            (new - old).abs().max() <= _RELATIVE_TOLERANCE * old.abs().max()
            for new, old in zip(features(probe), unfolded, strict=True)
        )
    # A convolution whose output is also used before its norm would give other features; and norms
    # far from what the probe gives amplify even float64's rounding (a large network of random
    # weights, whose statistics were of other images).
    if not same:
        raise BadInputError(
            "Folding BatchNorm would change what this network predicts: set "
            "inference.fold_batch_norm to false."
        )


def _fold(norm: nn.BatchNorm2d, convolution: nn.Conv2d) -> None:
    fused = fuse_conv_bn_eval(convolution, norm)
    convolution.weight, convolution.bias = fused.weight, fused.bias


def _pairs(features: nn.Module, probe: Tensor) -> list[tuple[nn.BatchNorm2d, nn.Conv2d]]:
    """Each norm whose input is what one convolution gave."""
    made_by: dict[int, nn.Conv2d] = {}
    outputs: list[Tensor] = []  # kept, so that no identity is used twice
    pairs: list[tuple[nn.BatchNorm2d, nn.Conv2d]] = []

    def convolved(convolution: nn.Conv2d, _: tuple[Tensor], output: Tensor) -> None:
        made_by[id(output)] = convolution
        outputs.append(output)

    def normalizes(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        if id(inputs[0]) in made_by:
            pairs.append((norm, made_by[id(inputs[0])]))

    with ExitStack() as hooks, torch.no_grad():
        for module in features.modules():
            if isinstance(module, nn.Conv2d):
                hooks.callback(module.register_forward_hook(convolved).remove)
            elif isinstance(module, nn.BatchNorm2d):
                hooks.callback(module.register_forward_pre_hook(normalizes).remove)
        features(probe)
    used = [convolution for _, convolution in pairs]
    return [(norm, convolution) for norm, convolution in pairs if used.count(convolution) == 1]
