"""Checkpoint files: what a run needs to be continued, on disk.

A checkpoint is written under a temporary name, forced onto the disk and then renamed, and
older ones are deleted only after that: whenever the machine stops, a whole one remains. Nothing
that unpickles code is ever loaded. ``checkpoint_manager.py`` decides when to write and read.
"""

import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from crc32c import crc32c
from torch import Tensor

from biomassters.errors import BadInputError
from biomassters.io.files import sync
from biomassters.messages import first_line
from biomassters.network.reference.checkpoint_file import check_archive
from biomassters.network.weights import tensor_bytes, unusable_number

logger = logging.getLogger(__name__)

FORMAT = 2  # 1 had a checksum of the weights alone
NAME = re.compile(r"checkpoint_(\d{5,})_(\d{6,})\.pt")
TEMPORARY = "checkpoint.tmp"
_MOST_USES = 8  # of the numbers of a file, by tensors that share them


class CheckpointFolder:
    """The checkpoints of one run, named by the epochs finished and the steps after them.

    The folder is made when the first one is saved; of the newest so many are kept.
    """

    def __init__(self, path: Path, kept: int) -> None:
        self.path, self.kept = Path(path), kept
        self._temporary = self.path / TEMPORARY

    def files(self) -> list[Path]:
        """Checkpoints, newest first."""
        found = [(NAME.fullmatch(file.name), file) for file in self.path.glob("checkpoint_*.pt")]
        numbered = [(int(match[1]), int(match[2]), file) for match, file in found if match]
        return [file for _, _, file in sorted(numbered, reverse=True)]

    def save(self, content: Mapping[str, Any], epoch: int, step: int) -> Path:
        """Write a checkpoint, then delete the oldest above the number kept; the file.

        The content may hold tensors, numbers, strings and None, in dicts and lists at any depth.
        The name tells the epochs finished and the steps done in the epoch after them.

        Raises:
            BadInputError: The disk is full or the folder can't be written. Earlier checkpoints
                are as they were.
        """
        path = self.path / f"checkpoint_{epoch:05d}_{step:06d}.pt"
        whole = {**content, "format": FORMAT, "crc32c": content_crc(content)}
        try:
            self._write(whole, path)
        except OSError as error:
            with suppress(OSError):  # where the folder has turned read-only, it has to stay
                self._temporary.unlink(missing_ok=True)
            raise BadInputError(
                f"The checkpoint {path} can't be written ({error.strerror}): make room or mend "
                "the folder's permissions and run the same command again; it continues from the "
                "checkpoint before."
            ) from error
        for old in self.files()[self.kept :]:
            old.unlink()
        return path

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

    def _write(self, whole: dict[str, Any], path: Path) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        # Given a path, torch hides what the disk says; given a file, it is what came before.
        with self._temporary.open("wb") as file:
            try:
                torch.save(whole, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        sync(self._temporary)
        self._temporary.replace(path)
        sync(self.path)


class DamagedCheckpointError(BadInputError):
    """A checkpoint that can't be read whole."""


def read_checkpoint(file: Path) -> dict[str, Any]:
    """One checkpoint, whole.

    Raises:
        BadInputError: It is damaged, of another version, or holds NaN or infinity.
    """
    try:
        check_archive(file)
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        _check_extent(content, file.stat().st_size)
        written_as = content.pop("format")
    except Exception as error:  # a damaged file may fail anywhere in torch's reader
        reason = _reason(error).removeprefix(f"{file} ")
        raise DamagedCheckpointError(f"Checkpoint {file} is damaged ({reason})") from None
    if written_as != FORMAT:
        raise BadInputError(
            f"Checkpoint {file} has format {written_as}, this version reads {FORMAT}: "
            "continue with the version that wrote it, or set training.restart=true."
        )
    # torch's reader compares no checksum of its zip file.
    expected = content.pop("crc32c", None)
    if content_crc(content) != expected:
        raise DamagedCheckpointError(f"Checkpoint {file} is damaged (its content changed on disk)")
    unusable = unusable_number(dict(_tensors(content)))
    if unusable:
        raise DamagedCheckpointError(f"Checkpoint {file} {unusable}")
    return content


def _reason(error: Exception) -> str:
    """Why torch refuses a file, without its advice to load it with code and all."""
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in first_line(error):
        return "it holds more than tensors, numbers and text, or can't be decoded"
    return first_line(error)


def _check_extent(content: Any, file_bytes: int) -> None:
    """Tensors that take more memory than the file holds are views that repeat its numbers."""
    total, seen, waiting = 0, set[int](), [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor):
            total += one.numel() * one.element_size()
        elif isinstance(one, Mapping | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            waiting += one.values() if isinstance(one, Mapping) else one
    if total > _MOST_USES * file_bytes:
        raise ValueError(f"its tensors would take {total:,} bytes of memory")


def _tensors(content: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of nested dicts and lists, by dotted name."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{name}.{key}".lstrip("."))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from _tensors(value, f"{name}.{number}")


def content_crc(content: Any, crc: int = 0) -> int:
    """CRC32C of a checkpoint's tensors and values, whatever device and layout the tensors have.

    ``crc`` is that of what goes before.
    """
    if isinstance(content, Tensor):
        crc = crc32c(f"{content.dtype}{list(content.shape)}".encode(), crc)
        return int(crc32c(tensor_bytes(content), crc))
    if isinstance(content, Mapping):
        crc = crc32c(f"dict {len(content)}".encode(), crc)
        for key, value in content.items():
            crc = content_crc(value, crc32c(repr(key).encode(), crc))
        return crc
    if isinstance(content, list | tuple):
        crc = crc32c(f"list {len(content)}".encode(), crc)
        for value in content:
            crc = content_crc(value, crc)
        return crc
    return int(crc32c(repr(content).encode(), crc))
