import errno

import pytest

from biomassters.errors import BadInputError
from biomassters.io import files as durable_files
from biomassters.io.files import publish_folder, require_space, write_durably


def names(path):
    return sorted(entry.name for entry in path.iterdir())


def folder(path, text):
    path.mkdir()
    (path / "content").write_text(text)
    return path


def test_write_in_pieces(tmp_path):
    write_durably(tmp_path / "file", [b"ab", memoryview(b"cd")])
    assert (tmp_path / "file").read_bytes() == b"abcd"
    assert names(tmp_path) == ["file"]


def test_space(tmp_path):
    require_space(tmp_path, 1, "Packing")
    with pytest.raises(BadInputError, match=r"^Packing needs about 1000 TB, but .* GB free"):
        require_space(tmp_path, 10**15, "Packing")


def test_a_new_folder_gets_its_name(tmp_path):
    publish_folder(folder(tmp_path / "new", "2"), tmp_path / "place")
    assert (tmp_path / "place" / "content").read_text() == "2"
    assert names(tmp_path) == ["place"]


@pytest.mark.parametrize("exchange", [True, False])
def test_an_old_folder_is_replaced(tmp_path, monkeypatch, exchange):
    if not exchange:  # as on a system without renameat2
        monkeypatch.setattr(durable_files, "_exchange", lambda first, second: False)
    folder(tmp_path / "place", "1")
    publish_folder(folder(tmp_path / "new", "2"), tmp_path / "place")
    assert (tmp_path / "place" / "content").read_text() == "2"
    assert names(tmp_path) == ["place"]


def test_exchange_reports_what_went_wrong(tmp_path):
    with pytest.raises(OSError, match="No such file") as caught:
        durable_files._exchange(tmp_path / "neither", tmp_path / "nor")
    assert caught.value.errno == errno.ENOENT
