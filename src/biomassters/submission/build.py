"""The archive that is handed in: every test chip once, checked before it takes its name.

The same maps give the same bytes: time, owner and permissions of a member say nothing about a
prediction, so they are fixed. ``check`` has the rules for a map, and reads archives.
"""

import gzip
import io
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.archive.layout import label_name
from biomassters.chips.predicted_maps import MapFolder
from biomassters.console import tracked
from biomassters.errors import BadInputError
from biomassters.io.raster import encode_raster
from biomassters.submission.check import AgbRange, archive_suffix, map_fault, read_archive

Map = NDArray[np.float32] | Callable[[], NDArray[np.float32]]

# Maps of floats are almost incompressible: higher levels cost time and save nothing.
_COMPRESSION_LEVEL = 1
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that zip can express
_READABLE_BY_ALL = 0o644


def write_submission(
    path: Path | str,
    predictions: Mapping[str, Map] | Path | str,
    test_chip_ids: Sequence[str],
    chip_size: tuple[int, int] = (256, 256),
    *,
    progress: bool = True,
) -> AgbRange:
    """Check maps and write them as ``{chip_id}_agbm.tif`` into one archive.

    Maps are taken one at a time, in the order of chip ids. The archive is written under a
    temporary name, read back, and only then replaces what stood at ``path``.

    Args:
        path: The archive; its suffix (.tar.gz, .tgz, .tar, .zip) decides the format.
        predictions: AGB in Mg/ha by chip id, as float32 [H, W] or a function that returns it;
            or a folder of ``{chip_id}_agbm.tif``.
        test_chip_ids: Every chip that must be in the archive, and no other.
        chip_size: H and W of every map.
        progress: Show a bar on stderr.

    Returns:
        The values of its maps.

    Raises:
        BadInputError: A chip is missing, foreign or twice, or a map has another size or type
            or a pixel that is no number; names the first such chip and how many there are.
    """
    place = Path(path)
    suffix = archive_suffix(place)
    maps = predictions if isinstance(predictions, Mapping) else MapFolder(Path(predictions))
    _check_chips(maps, test_chip_ids)
    place.parent.mkdir(parents=True, exist_ok=True)
    growing = place.with_name(f".{place.name}.partial")
    checksums: dict[str, int] = {}
    faults: list[str] = []
    agb = AgbRange()
    try:
        with archive_writer(growing, suffix) as add:
            for chip_id in tracked(sorted(test_chip_ids), "packing the submission", shown=progress):
                agb_HW = _take(maps, chip_id, chip_size, faults)
                if faults:  # nothing more is written, but the rest is still counted
                    continue
                content, name = encode_raster(agb_HW), label_name(chip_id)
                agb.update(agb_HW)
                add(name, content)
                checksums[name] = zlib.crc32(content)
        if faults:
            raise BadInputError(
                f"{faults[0]} ({len(faults)} of {len(test_chip_ids)} maps have a fault): "
                "predict these chips again; no submission was written."
            )
        members = read_archive(growing, suffix, sys.maxsize)
        if [(one.name, zlib.crc32(one.read())) for one in members] != list(checksums.items()):
            raise OSError(f"{growing} reads back differently from what was written: check the disk")
        growing.replace(place)
    finally:
        growing.unlink(missing_ok=True)
    return agb


def _check_chips(maps: Mapping[str, Map], test_chip_ids: Sequence[str]) -> None:
    if not test_chip_ids:
        raise BadInputError("No test chips are listed; check the split column of the metadata.")
    twice = sorted(chip for chip, count in Counter(test_chip_ids).items() if count > 1)
    if twice:
        raise BadInputError(
            f"Chip {twice[0]} is listed more than once among the test chips, as are "
            f"{len(twice) - 1} others; list each once."
        )
    predicted = set(maps)  # maps.keys() would open a map to see whether it is there
    missing = sorted(set(test_chip_ids) - predicted)
    if missing:
        raise BadInputError(
            f"Chip {missing[0]} is missing: {len(missing)} of {len(test_chip_ids)} test chips have "
            "no prediction; predict the whole test split."
        )
    foreign = sorted(predicted - set(test_chip_ids))
    if foreign:
        raise BadInputError(
            f"Chip {foreign[0]} is not a test chip: {len(foreign)} of {len(maps)} predictions "
            "don't belong in the submission; remove them or predict the test split alone."
        )


def _take(
    maps: Mapping[str, Map], chip_id: str, chip_size: tuple[int, int], faults: list[str]
) -> NDArray[np.float32]:
    """One map; what is wrong with it joins the faults."""
    try:
        found = maps[chip_id]
        agb_HW = np.asarray(found() if callable(found) else found)
    except BadInputError as error:
        faults.append(f"Chip {chip_id}: {str(error).rstrip('.')}")
        return np.empty(0, np.float32)
    fault = map_fault(agb_HW, chip_size)
    if fault:
        faults.append(f"Chip {chip_id} {fault}")
    return agb_HW


@contextmanager
def archive_writer(path: Path, suffix: str) -> Iterator[Callable[[str, bytes], None]]:
    """Open an archive for writing; yields a function that adds a member by name and content."""
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", compresslevel=_COMPRESSION_LEVEL) as archive:
            yield lambda name, content: archive.writestr(_zip_member(name), content)
        return
    with ExitStack() as stack:
        stream: io.IOBase = stack.enter_context(path.open("wb"))
        if suffix != ".tar":
            # No name and no time in the gzip header: they would differ from run to run.
            stream = stack.enter_context(
                gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, stream, mtime=0)
            )
        tar = stack.enter_context(
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT)
        )
        yield lambda name, content: tar.addfile(_tar_member(name, content), io.BytesIO(content))


def _tar_member(name: str, content: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = _READABLE_BY_ALL
    return member


def _zip_member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _ZIP_EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3  # Unix, whatever writes it
    member.external_attr = _READABLE_BY_ALL << 16
    return member
