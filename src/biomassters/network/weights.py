"""Weights on disk: a safetensors file, and beside it a JSON of what rebuilds the network.

Nothing here unpickles; weights of the challenge's first place come in by ``reference/convert``.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from biomassters.chips.bands import BAND_NAMES
from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.io.files import read_json, write_durably
from biomassters.messages import first_line
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.network.starter import weights_file

FORMAT = "biomassters-network"
FORMAT_VERSION = 1
_DIGEST = "description_sha256"
_KINDS: dict[str, Any] = {  # None also for what older releases didn't write
    "network": dict,
    "scaling": dict,
    "fingerprint": str | None,
    "data_fingerprint": str | None,
    "trained_on": dict | None,
    "started_from": dict | None,
}
_SAFETENSORS_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_SAFETENSORS_ALIGNMENT = 8


def description_path(path: Path | str) -> Path:
    """The JSON that belongs to a weights file."""
    return Path(path).with_suffix(".json")


def weights_fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names and numbers of weights, in the order of their names.

    It changes when a number does, and not with the file's name, date or description.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(tensor_bytes(state[name]))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Its numbers in the order of its indices, whatever its device and layout."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


# ---- Saving --------------------------------------------------------------------------------


def save_network(
    network: AgbNet,
    path: Path | str,
    description: Mapping[str, Any] | None = None,
    *,
    half: bool = False,
) -> None:
    """Write the weights, then their description; each appears whole or not at all.

    Args:
        network: On any device.
        path: The weights file, ``*.safetensors``; the JSON gets the same stem.
        description: More for the JSON, such as ``data_fingerprint`` and ``recipe``.
        half: Keep kernels and matrices as float16, half the size. Vectors stay float32: running
            variances lie below what float16 resolves, the constants of the scaling above it.

    Raises:
        ValueError: Its BatchNorm has been folded, so its weights are not those of the JSON.
    """
    if network.is_folded:
        raise ValueError("A network with folded BatchNorm cannot be saved; save the original.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    everything = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "network": network.options.model_dump() | {"backbone": network.encoder.backbone},
        "bands": list(BAND_NAMES),
        "scaling": network.scaling.to_dict(),
        **dict.fromkeys(
            ("data_fingerprint", "recipe", "fingerprint", "trained_on", "started_from")
        ),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "weights_never_called": network.weights_never_called(),
        **(description or {}),
    }
    state: Mapping[str, Tensor] = network.state_dict()
    if half:
        state = {name: one.half() if one.ndim > 1 else one for name, one in state.items()}
    # What is handed on with loaded weights may hold the fingerprint that they had then.
    everything["fingerprint"] = weights_fingerprint(_in_float32(state))
    text = (json.dumps(everything, indent=2) + "\n").encode()
    # The digest ties the two files together: a crash between them must not pair new weights
    # with an old description.
    metadata = {"format": "pt", _DIGEST: hashlib.sha256(text).hexdigest()}
    write_safetensors(path, state, metadata)
    write_durably(description_path(path), [text])


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file tensor by tensor: the library would hold all of it twice.

    The format (https://huggingface.co/docs/safetensors): the header's length as a little-endian
    64-bit integer, a JSON header of types, shapes and offsets, then the tensors' bytes. They may
    lie on any device in any memory format; the file appears whole or not at all.
    """
    entries: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": _SAFETENSORS_TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _SAFETENSORS_ALIGNMENT)

    def parts() -> Iterator[bytes | memoryview]:
        yield len(header).to_bytes(8, "little")
        yield header
        yield from map(tensor_bytes, tensors.values())

    write_durably(path, parts())


# ---- Loading -------------------------------------------------------------------------------


def read_description(path: Path | str) -> dict[str, Any]:
    """What the JSON beside a weights file says.

    Args:
        path: The weights file, or ``starter``.

    Returns:
        At least ``network``, ``bands``, ``scaling``, ``data_fingerprint`` and ``recipe``. Weights
        of this release also say their ``fingerprint``, what they were ``trained_on``
        (``simulated``, ``dataset``, ``chips``, ``data_fingerprint``, ``date``; None: unknown), and
        the fingerprint and training of those that they ``started_from`` (None: random or
        pretrained ones).

    Raises:
        BadInputError: No such JSON, or not one of ours.
    """
    beside = description_path(weights_file(path))
    if not beside.exists():
        raise BadInputError(
            f"{beside} is missing: weights need the JSON that was written with them."
        )
    description = read_json(beside, "copy it again from its source")
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise BadInputError(f"{beside} does not describe weights of this project.")
    if description.get("version") != FORMAT_VERSION:
        raise BadInputError(
            f"{beside} has format version {description.get('version')}, this release reads "
            f"{FORMAT_VERSION}: use the release that wrote it."
        )
    if description.get("bands") != list(BAND_NAMES):
        raise BadInputError(
            f"{beside} lists other bands than {', '.join(BAND_NAMES)}: use weights that were "
            "trained with these, or train anew."
        )
    for name, kind in _KINDS.items():
        value = description.get(name)
        if not isinstance(value, kind):
            raise BadInputError(
                f"{beside} was changed ({name} can't be {str(value)[:80]!r}): copy it again from "
                "its source."
            )
    return description


def load_network(path: Path | str, device: torch.device | str = "cpu") -> AgbNet:
    """Rebuild a network, in evaluation mode, from its weights file (or ``starter``) and its JSON.

    Raises:
        BadInputError: A file is missing or damaged, the two do not belong together, or numbers
            are NaN, infinite or negative variances.
    """
    path = weights_file(path)
    description = read_description(path)
    tensors = _read_tensors(path)
    # The header ties the JSON to the file, and the JSON the numbers: safetensors has no checksum.
    # Weights of releases before there was a fingerprint are read without.
    fingerprint = description.get("fingerprint")
    if fingerprint is not None and fingerprint != weights_fingerprint(tensors):
        raise BadInputError(f"{path} is damaged (its numbers changed on disk): copy it again.")
    try:
        options = NetworkOptions.model_validate({**description["network"], "pretrained": False})
        scaling = BandScaling.from_dict(description["scaling"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(
            f"{description_path(path)} does not describe a network: {first_line(error)}."
        ) from error
    return network_of_tensors(options, scaling, tensors, str(path)).to(device)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise BadInputError(f"{path} is missing: give the path of a .safetensors file.")
    try:
        with safe_open(path, framework="pt") as file:
            digest = (file.metadata() or {}).get(_DIGEST)
            read = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            tensors = _in_float32(read)
    except (SafetensorError, OSError) as error:
        raise BadInputError(
            f"{path} is damaged or no safetensors file ({first_line(error)}): copy it again."
        ) from error
    beside = description_path(path)
    if digest != hashlib.sha256(beside.read_bytes()).hexdigest():
        raise BadInputError(
            f"{beside} was not written with {path.name}, or was changed: copy both from one source."
        )
    return tensors


def _in_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What ``half`` has rounded, as the network computes with it."""
    return {
        name: one.float() if one.dtype == torch.float16 else one for name, one in tensors.items()
    }


def network_of_tensors(
    options: NetworkOptions, scaling: BandScaling, tensors: dict[str, Tensor], source: str
) -> AgbNet:
    """A network, in evaluation mode, that takes over its whole state without copying it.

    ``tensors`` is emptied, so that no number is held twice; ``source`` is for messages.

    Raises:
        BadInputError: The tensors do not fit, or hold NaN, infinity or a negative variance.
    """
    with torch.device("meta"):
        network = AgbNet(options, scaling)
    expected = network.state_dict()
    _check_tensors(tensors, expected, source)
    if unusable := unusable_number(tensors):
        raise BadInputError(f"{source} {unusable}: use weights of a training that went well.")
    if any(one.is_meta for name, one in network.named_buffers() if name not in expected):
        network = AgbNet(options, scaling)  # some backbones compute constants when built
    network.load_state_dict(tensors, assign=True)
    tensors.clear()
    return network.eval()


def _check_tensors(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str
) -> None:
    """Refuse tensors that don't fit a network, by the name of the first that doesn't."""
    remedy = "use weights of this network."
    for key, tensor in expected.items():
        if key not in found:
            raise BadInputError(f"{source} lacks the tensor {key}: {remedy}")
        if found[key].shape != tensor.shape:
            raise BadInputError(
                f"{source} holds {key} with shape {list(found[key].shape)} where the network has "
                f"{list(tensor.shape)}: {remedy}"
            )
        if found[key].dtype != tensor.dtype:
            has, wants = (str(one.dtype).removeprefix("torch.") for one in (found[key], tensor))
            raise BadInputError(
                f"{source} holds {key} as {has} where the network has {wants}: {remedy}"
            )
    for key in found:
        if key not in expected:
            raise BadInputError(
                f"{source} holds the tensor {key}, which the network does not have: {remedy}"
            )


def unusable_number(tensors: Mapping[str, Tensor]) -> str | None:
    """What no network can compute with: NaN, infinity, a negative variance of BatchNorm.

    Any of them gives maps without a warning (of nothing, or of NaN).

    Returns:
        End of a sentence that names the first such tensor; None where all are usable.
    """
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        # torch.isfinite would hold the tensor's size and half of it again; NaN comes through.
        lowest, highest = tensor.aminmax()
        if not (lowest.isfinite() and highest.isfinite()):
            return f"holds NaN or infinity in {key}"
        if key.endswith("running_var") and lowest < 0:
            return f"holds a negative variance in {key}"
    return None


# ---- Counting ------------------------------------------------------------------------------


def parameter_table(network: AgbNet) -> pd.DataFrame:
    """Count the parameters of each part of a network, which may lie on the meta device.

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
            parts[f"decoder, block {number}, {name}"] = part
    parts |= {"head": network.segmentation_head, "whole network": network}
    rows = []
    for name, part in parts.items():
        sizes = [parameter.numel() for parameter in part.parameters()]
        if sizes:  # without scSE, gates have none
            rows.append((name, sum(sizes), len(sizes)))
    return pd.DataFrame(rows, columns=["part", "parameters", "tensors"])
