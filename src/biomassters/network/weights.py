"""Weights on disk: a safetensors file, and beside it a JSON of what rebuilds the network."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from biomassters.chips.bands import BAND_NAMES
from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.io.files import read_regular
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.network.safetensors_file import write_safetensors
from biomassters.network.tensor_check import check_tensors, unusable_number

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


def weights_fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names and numbers of weights, in the order of their names.

    It changes when a number does, and not with the file's name, date or description.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        flat = state[name].detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def description_path(path: Path | str) -> Path:
    """The JSON that belongs to a weights file."""
    return Path(path).with_suffix(".json")


def save_network(
    network: AgbNet, path: Path | str, description: Mapping[str, Any] | None = None
) -> None:
    """Write the weights, then their description; each appears whole or not at all.

    Args:
        network: On any device.
        path: The weights file, ``*.safetensors``; the JSON gets the same stem.
        description: More for the JSON, such as ``data_fingerprint`` and ``recipe``.

    Raises:
        ValueError: Its BatchNorm has been folded, so its weights are not those of the JSON.
    """
    if network.is_folded:
        raise ValueError("A network with folded BatchNorm cannot be saved; save the original.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_describe(network, description or {}), indent=2) + "\n"
    # The digest ties the two files together: a crash between them must not pair new weights
    # with an old description.
    metadata = {"format": "pt", _DIGEST: hashlib.sha256(text.encode()).hexdigest()}
    write_safetensors(path, network.state_dict(), metadata)
    beside = description_path(path)
    temporary = beside.with_name(f".{beside.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(beside)


def read_description(path: Path | str) -> dict[str, Any]:
    """What the JSON beside a weights file says.

    Args:
        path: The weights file.

    Returns:
        At least ``network``, ``bands``, ``scaling``, ``data_fingerprint`` and ``recipe``. Weights
        of this release also say their ``fingerprint``, what they were ``trained_on``
        (``simulated``, ``dataset``, ``chips``, ``data_fingerprint``, ``date``; None: unknown), and
        the fingerprint and training of those that they ``started_from`` (None: random or
        pretrained ones).

    Raises:
        BadInputError: No such JSON, or not one of ours.
    """
    beside = description_path(path)
    try:
        description = json.loads(read_regular(beside))
    except FileNotFoundError:
        raise BadInputError(
            f"{beside} is missing: weights need the JSON that was written with them."
        ) from None
    except BadInputError:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{beside} is not JSON: copy it again from its source.") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise BadInputError(f"{beside} does not describe weights of this project.")
    if description.get("version") != FORMAT_VERSION:
        raise BadInputError(
            f"{beside} has format version {description.get('version')}, this release reads "
            f"{FORMAT_VERSION}: use the release that wrote it."
        )
    if description.get("bands") != list(BAND_NAMES):
        raise BadInputError(f"{beside} lists other bands than {', '.join(BAND_NAMES)}.")
    for name, kind in _KINDS.items():
        value = description.get(name)
        if not isinstance(value, kind):
            raise BadInputError(
                f"{beside} was changed ({name} can't be {str(value)[:80]!r}): copy it again from "
                "its source."
            )
    return description


def load_network(path: Path | str, device: torch.device | str = "cpu") -> AgbNet:
    """Rebuild a network from its weights file and the JSON beside it.

    Args:
        path: The weights file.
        device: Where to.

    Returns:
        The network in evaluation mode.

    Raises:
        BadInputError: A file is missing or damaged, the two do not belong together, or numbers
            are NaN, infinite or negative variances.
    """
    description = read_description(path)
    tensors = _read_tensors(Path(path))
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
            f"{description_path(path)} does not describe a network: {_first_line(error)}."
        ) from error
    return network_of_tensors(options, scaling, tensors, str(path)).to(device)


def network_of_tensors(
    options: NetworkOptions, scaling: BandScaling, tensors: dict[str, Tensor], source: str
) -> AgbNet:
    """A network, in evaluation mode, that takes over tensors without copying them.

    Args:
        options: The architecture.
        scaling: Minimum and maximum of each band.
        tensors: Its whole state; emptied, so that no number is held twice.
        source: Where they come from, for messages.

    Raises:
        BadInputError: The tensors do not fit, or hold NaN, infinity or a negative variance.
    """
    with torch.device("meta"):
        network = AgbNet(options, scaling)
    check_tensors(tensors, network.state_dict(), source)
    unusable = unusable_number(tensors)
    if unusable:
        raise BadInputError(f"{source} {unusable}: use weights of a training that went well.")
    if any(buffer.is_meta for buffer in _unsaved_buffers(network)):
        network = AgbNet(options, scaling)  # some backbones compute constants when built
    network.load_state_dict(tensors, assign=True)
    tensors.clear()
    return network.eval()


def _unsaved_buffers(network: AgbNet) -> list[Tensor]:
    saved = network.state_dict().keys()
    return [buffer for name, buffer in network.named_buffers() if name not in saved]


def _describe(network: AgbNet, description: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: getattr(network.options, name) for name in NetworkOptions.model_fields}
    options |= {"backbone": network.encoder.backbone}
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "network": options,
        "bands": list(BAND_NAMES),
        "scaling": network.scaling.to_dict(),
        "data_fingerprint": None,
        "recipe": None,
        "fingerprint": weights_fingerprint(network.state_dict()),
        "trained_on": None,
        "started_from": None,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "weights_never_called": network.weights_never_called(),
        **{name: value for name, value in description.items() if name != "fingerprint"},
    }


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise BadInputError(f"{path} is missing: give the path of a .safetensors file.")
    try:
        with safe_open(path, framework="pt") as file:
            digest = (file.metadata() or {}).get(_DIGEST)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInputError(
            f"{path} is damaged or no safetensors file ({_first_line(error)}): copy it again."
        ) from error
    beside = description_path(path)
    if digest != hashlib.sha256(beside.read_bytes()).hexdigest():
        raise BadInputError(
            f"{beside} was not written with {path.name}, or was changed: copy both from one source."
        )
    return tensors


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
