"""Options of prediction; checked before anything runs, without torch."""

from typing import Literal

from pydantic import Field, field_validator

from biomassters.network.options import ExecutionOptions
from biomassters.options import Options

ViewName = Literal["identity", "left_right", "up_down", "both"]


class InferenceOptions(Options):
    """How weights become maps."""

    views: tuple[ViewName, ...] = Field(
        default=("identity", "left_right", "up_down", "both"),
        min_length=1,
        description="Mirror images that are predicted and averaged; each costs one more pass.",
    )
    clip_negative: bool = Field(
        default=True, description="Set negative biomass, which no forest has, to 0."
    )
    batch_size: int = Field(default=4, gt=0, description="Chips predicted together.")
    cpu_parts: int = Field(
        default=2,
        gt=0,
        description="On a CPU, parts of a batch that are predicted side by side, a thread each; "
        "cores beyond them compute inside a part.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Arithmetic of the network: auto takes bfloat16 (float16 where the "
        "device lacks it) on a GPU, and on a CPU that has it for decoders of 128 channels and "
        "more; else float32.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto (a GPU when there is one), cpu, cuda, cuda:N or mps.",
    )
    loader_threads: int = Field(
        default=2, gt=0, description="Threads that read the chip store ahead of the network."
    )
    check_ranges: bool = Field(
        default=True,
        description="Refuse chips of an archive whose values look like another unit or order of "
        "bands, or whose pixels have another size on the ground.",
    )
    fold_batch_norm: bool = Field(
        default=True,
        description="Make BatchNorm part of the convolutions before it: the same maps, faster, for "
        "a second copy of the weights in memory.",
    )
    execution: ExecutionOptions = Field(
        default=ExecutionOptions(), description="How the network is computed; the maps stay."
    )

    @field_validator("views")
    @classmethod
    def _each_view_once(cls, views: tuple[ViewName, ...]) -> tuple[ViewName, ...]:
        twice = sorted({view for view in views if views.count(view) > 1})
        if twice:
            raise ValueError(f"{twice[0]} is listed twice and would weigh double; list it once.")
        return views
