"""What can be chosen about the network and how it is computed; no torch, so that it loads fast."""

from typing import Literal

from pydantic import Field, field_validator

from biomassters.options import Options

LEVEL_COUNT = 5
REFERENCE_DECODER_CHANNELS = (384, 368, 352, 336, 320)
"""Widths of the challenge's first place (MIT licence)."""
Choice = Literal["auto"] | bool
_WIDEST = 65_536  # wider ones overflow when torch counts a kernel's numbers


class NetworkOptions(Options):
    """The architecture: everything that decides which weights exist.

    The defaults are the small network of the simulated default run; the winning network is
    ``tf_efficientnetv2_l.in21k`` with ``REFERENCE_DECODER_CHANNELS`` and ``scse``.
    """

    backbone: str = Field(
        default="mobilenetv3_small_050",
        min_length=1,
        description="Name of a timm model with feature levels at strides 2, 4, 8, 16, 32.",
    )
    pretrained: bool = Field(
        default=False, description="Start from timm's weights; refused when they cannot be fetched."
    )
    allow_random_start: bool = Field(
        default=False,
        description="Go on from random weights, with a warning, when pretrained ones cannot be "
        "fetched.",
    )
    decoder_channels: tuple[int, ...] = Field(
        default=(64, 48, 40, 32, 24),
        description="Widths of the five decoder blocks, from stride 16 to stride 1.",
    )
    scse: bool = Field(
        default=True,
        description="Gate channels and pixels before and after each decoder block (scSE).",
    )

    @field_validator("decoder_channels")
    @classmethod
    def _five_positive_widths(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if len(widths) != LEVEL_COUNT or min(widths) < 1 or max(widths) > _WIDEST:
            raise ValueError(
                f"decoder_channels needs {LEVEL_COUNT} widths of at least 1 and at most {_WIDEST}, "
                f"such as {list(REFERENCE_DECODER_CHANNELS)}, not {str(list(widths))[:80]}."
            )
        return widths


class ExecutionOptions(Options):
    """How the same network is computed: speed and memory, never the result."""

    channels_last: Choice = Field(
        default="auto",
        description="Keep images as [N, H, W, C] in memory; auto: on a CPU. On a GPU it makes "
        "steps of large networks a third faster, but every number of months that is new to the "
        "process costs seconds: for runs of hours.",
    )
    subpixel: Choice = Field(
        default="auto",
        description="Convolve the nearest-upsampled input of the last block at low resolution; "
        "auto: where it was measured to be faster, on a CPU.",
    )
    winograd: Choice = Field(
        default="auto",
        description="Compute wide 3x3 convolutions of the decoder in Winograd tiles; auto: where "
        "it was measured to be faster, in float32 on a CPU.",
    )
    checkpoint_levels: tuple[int, ...] = Field(
        default=(),
        description="Levels (0: stride 2 … 4: stride 32) whose activations are recomputed in "
        "the backward pass instead of kept: less memory, more time.",
    )
    compile: bool = Field(
        default=False,
        description="Compile pointwise chains with torch.compile; plain execution, with a line "
        "in the log, where that fails.",
    )

    @field_validator("checkpoint_levels")
    @classmethod
    def _known_levels(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if any(level not in range(LEVEL_COUNT) for level in levels):
            raise ValueError(
                f"checkpoint_levels may hold 0 to {LEVEL_COUNT - 1}, not {list(levels)}."
            )
        return tuple(sorted(set(levels)))
