"""Checkpoint files: what a run needs to be continued, on disk.

A checkpoint is written under a temporary name, forced onto the disk and then renamed, and
older ones are deleted only after that: whenever the machine stops, a whole one remains. Nothing
that unpickles code is ever loaded.
"""

import errno
import logging
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biomassters.chips.durable_files import sync
from biomassters.errors import BadInputError

logger = logging.getLogger(__name__)

FORMAT = 1
NAME = re.compile(r"checkpoint_(\d{5,})_(\d{6,})\.pt")
TEMPORARY = "checkpoint.tmp"


class CheckpointFolder:
    """The checkpoints of one run, named by the epochs finished and the steps after them.

    Args:
        path: The folder; made when the first checkpoint is saved.
        kept: How many are kept.
    """

    def __init__(self, path: Path, kept: int) -> None:
        self.path = Path(path)
        self.kept = kept

    def files(self) -> list[Path]:
        """Checkpoints, newest first."""
        found = [(NAME.fullmatch(file.name), file) for file in self.path.glob("checkpoint_*.pt")]
        numbered = [(int(match[1]), int(match[2]), file) for match, file in found if match]
        return [file for _, _, file in sorted(numbered, reverse=True)]

    def save(self, content: Mapping[str, Any], epoch: int, step: int) -> Path:
        """Write a checkpoint, then delete the oldest above the number kept.

        Args:
            content: Tensors, numbers, strings, lists and dicts; ``"weights"`` a state dict.
            epoch: Epochs finished.
            step: Steps done in the epoch after them.

        Returns:
            The file.

        Raises:
            BadInputError: The disk is full or the folder can't be written. Earlier checkpoints
                are as they were.
        """
        place = self.path / f"checkpoint_{epoch:05d}_{step:06d}.pt"
        whole = {**content, "format": FORMAT, "weights_crc": weights_crc(content["weights"])}
        try:
            self._write(whole, place)
        except OSError as error:
            self._temporary.unlink(missing_ok=True)
            raise BadInputError(
                f"The checkpoint {place} can't be written ({error.strerror}): make room or mend "
                "the folder's permissions and run the same command again; it continues from the "
                "checkpoint before."
            ) from error
        for old in self.files()[self.kept :]:
            old.unlink()
        return place

    def newest(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read whole; None where there is none.

        A damaged one is set aside under another name and the one before it is taken, which is
        said in the log.

        Raises:
            BadInputError: There are checkpoints, but none can be read.
        """
        files = self.files()
        for file in files:
            try:
                return read_checkpoint(file)
            except DamagedCheckpointError as error:
                aside = file.with_name(file.name + ".damaged")
                file.replace(aside)
                logger.warning("%s; it is set aside as %s.", error, aside.name)
        if files:
            raise BadInputError(
                f"None of the checkpoints in {self.path} can be read: set training.restart=true "
                "to start afresh."
            )
        return None

    def clear(self) -> None:
        """Delete all checkpoints."""
        for file in self.files():
            file.unlink()

    @property
    def _temporary(self) -> Path:
        return self.path / TEMPORARY

    def _write(self, whole: dict[str, Any], place: Path) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(whole, self._temporary)
        except RuntimeError as error:  # torch hides a full disk behind an error of its own
            raise OSError(errno.ENOSPC, "the disk may be full") from error
        sync(self._temporary)
        self._temporary.replace(place)
        sync(self.path)


class DamagedCheckpointError(BadInputError):
    """A checkpoint that can't be read whole."""


def read_checkpoint(file: Path) -> dict[str, Any]:
    """One checkpoint, whole.

    Raises:
        BadInputError: It is damaged, or of another version.
    """
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        found, expected = weights_crc(content["weights"]), content["weights_crc"]
    except Exception as error:  # a damaged file may fail anywhere in torch's reader
        raise DamagedCheckpointError(
            f"Checkpoint {file} is damaged ({_first_line(error)})"
        ) from error
    if found != expected:
        raise DamagedCheckpointError(f"Checkpoint {file} is damaged (its weights changed on disk)")
    if content["format"] != FORMAT:
        raise BadInputError(
            f"Checkpoint {file} has format {content['format']}, this version reads {FORMAT}: "
            "continue with the version that wrote it, or set training.restart=true."
        )
    return content


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def weights_crc(state: Mapping[str, Tensor]) -> int:
    """Checksum of names and values of a state dict, whatever device and layout they have."""
    crc = 0
    for name, tensor in state.items():
        crc = zlib.crc32(name.encode(), crc)
        values = tensor.detach().cpu().contiguous().reshape(-1)
        crc = zlib.crc32(values.view(torch.uint8).numpy().data, crc)
    return crc
