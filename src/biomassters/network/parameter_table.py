"""How many parameters a network has, part by part."""

import pandas as pd
from torch import nn

from biomassters.network.agb_net import AgbNet


def parameter_table(network: AgbNet) -> pd.DataFrame:
    """Count the parameters of each part.

    Args:
        network: May lie on the meta device, where it takes no memory.

    Returns:
        Columns part, parameters and tensors: the encoder, the attention of each level (0: stride
        2 … 4: stride 32), each decoder block (0: to stride 16 … 4: to stride 1) with its parts,
        the head, and last the whole network. Scaling constants and running statistics are
        buffers and not counted.
    """
    parts: dict[str, nn.Module] = {"encoder": network.encoder}
    parts |= {f"attention, level {level}": part for level, part in enumerate(network.attn)}
    for number, block in enumerate(network.decoder.blocks):
        parts[f"decoder, block {number}"] = block
        for name, part in block.named_children():
            if sum(1 for _ in part.parameters()):
                parts[f"decoder, block {number}, {name}"] = part
    parts |= {"head": network.segmentation_head, "whole network": network}
    rows = [(name, *_count(part)) for name, part in parts.items()]
    return pd.DataFrame(rows, columns=["part", "parameters", "tensors"])


def _count(part: nn.Module) -> tuple[int, int]:
    sizes = [parameter.numel() for parameter in part.parameters()]
    return sum(sizes), len(sizes)
