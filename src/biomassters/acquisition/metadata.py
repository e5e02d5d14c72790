"""The metadata of an archive that is to be brought from a mirror."""

from pathlib import Path

from biomassters.acquisition.options import AcquisitionOptions
from biomassters.acquisition.sources import open_stream
from biomassters.chips.archive.layout import ArchiveFiles
from biomassters.chips.archive.metadata import FEATURES_METADATA, LABELS_METADATA, find_metadata
from biomassters.errors import BadInputError


def bring_metadata(root: Path, options: AcquisitionOptions) -> None:
    """Copies the two metadata files from a mirror, where the archive's folder has none yet.

    The buckets of the challenge don't hold them, so that with them as the source the user has to
    bring them.

    Args:
        root: The archive's folder.
        options: The source.

    Raises:
        BadInputError: If the mirror doesn't have them.
    """
    root.mkdir(parents=True, exist_ok=True)
    files = ArchiveFiles.find(root)
    if options.source == "s3" or options.tar_parts:
        return
    for kind in (FEATURES_METADATA, LABELS_METADATA):
        if not any(kind in path.rpartition("/")[2] for path in files.csv_paths):
            data = _read(kind, options)
            partial = root / f".{kind}.partial"
            partial.write_bytes(data)
            partial.replace(root / f"{kind}.csv")


def _read(kind: str, options: AcquisitionOptions) -> bytes:
    source = options.source.rstrip("/")
    address = f"{source}/{kind}.csv"
    if "://" not in source:
        if not Path(source).is_dir():
            raise BadInputError(
                f"acquisition.source: {source} is not a folder; use s3, an existing folder, "
                "http(s):// or s3://."
            )
        return Path(find_metadata(ArchiveFiles.find(source), kind)).read_bytes()
    try:
        with open_stream(address, options) as stream:
            return bytes(stream.read())
    except BadInputError:
        raise
    except Exception as error:  # whatever a network library raises
        raise BadInputError(
            f"{address} can't be read ({str(error).splitlines()[0][:200]}): check "
            f"acquisition.source, or copy {kind}.csv into the archive's folder."
        ) from error
