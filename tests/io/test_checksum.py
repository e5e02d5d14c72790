from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biomassters.io import checksum
from biomassters.io.checksum import file_cksum, posix_cksum


def bitwise(data: bytes) -> int:
    """The definition of IEEE Std 1003.1, bit by bit."""
    length = len(data)
    state = 0
    for byte in data + length.to_bytes((length.bit_length() + 7) // 8, "little"):
        state ^= byte << 24
        for _ in range(8):
            state = (state << 1) ^ (0x104C11DB7 if state & 0x80000000 else 0)
    return state ^ 0xFFFFFFFF


def test_known_values() -> None:
    assert posix_cksum(b"123456789") == 930766865
    assert posix_cksum(b"") == 4294967295


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_equals_the_definition(data: bytes) -> None:
    assert posix_cksum(data) == bitwise(data)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50))
def test_blocks_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, block_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks"
    path.write_bytes(data)
    with patch.object(checksum, "_BLOCK_BYTES", block_bytes):
        assert file_cksum(path) == posix_cksum(data) == bitwise(data)


def test_more_than_one_block(tmp_path: Path) -> None:
    data = bytes(range(251)) * 1100
    path = tmp_path / "long"
    path.write_bytes(data)
    assert file_cksum(path) == posix_cksum(data) == bitwise(data)


@pytest.mark.parametrize("kind", ["features", "train_agbm"])
def test_real_files(sample_root: Path, kind: str) -> None:
    listed = pd.read_csv(sample_root / f"{kind}_metadata.csv").set_index("filename")
    folder = sample_root / ("train_features" if kind == "features" else "train_agbm")
    names = sorted(path.name for path in folder.glob("*.tif"))
    assert names
    for name in names[:4]:
        assert file_cksum(folder / name) == listed.loc[name, "cksum"]
        assert (folder / name).stat().st_size == listed.loc[name, "size"]
