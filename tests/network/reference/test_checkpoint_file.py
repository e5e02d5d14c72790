import argparse
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import timm
import torch
from torch import nn

from biomassters.errors import BadInputError
from biomassters.network.reference.checkpoint_file import read_checkpoint


class _Payload:
    """Pickles as a call of ``os.system``."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def _same(found, expected):
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("backbone", ["lcnet_035", "resnet18"])
def test_a_pickled_module_gives_its_state_dict(tmp_path, backbone):
    module = timm.create_model(backbone, features_only=True)
    torch.save(module, tmp_path / "module.pth")
    _same(read_checkpoint(tmp_path / "module.pth"), module.state_dict())


def test_unsaved_buffers_and_missing_biases_are_left_out(tmp_path):
    module = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2))
    module.register_buffer("scratch", torch.ones(2), persistent=False)
    torch.save(module, tmp_path / "module.pth")
    _same(read_checkpoint(tmp_path / "module.pth"), module.state_dict())


def test_a_training_checkpoint_gives_its_weights_without_the_parallel_prefix(tmp_path):
    module = nn.Conv2d(2, 3, 3)
    content = {
        "epoch": 9,
        "best_score": np.float64(27.5),
        "opts": argparse.Namespace(lr=1e-3, names=["a"]),
        "state_dict": {f"module.{key}": value for key, value in module.state_dict().items()},
        "optimizer": torch.optim.AdamW(module.parameters()).state_dict(),
    }
    torch.save(content, tmp_path / "last.pth")
    _same(read_checkpoint(tmp_path / "last.pth"), module.state_dict())


def test_views_of_one_storage_and_strange_strides_come_back(tmp_path):
    base = torch.arange(24.0)
    state = OrderedDict(
        tail=base[20:],
        turned=base.view(4, 6).t(),
        last=torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
        half=torch.rand(3).half(),
        count=torch.tensor(7),
        empty=torch.zeros(0, 3),
        shared=nn.Parameter(base[:2]),
    )
    torch.save(state, tmp_path / "state.pth")
    found = read_checkpoint(tmp_path / "state.pth")
    _same(found, {key: value.detach() for key, value in state.items()})
    assert found["last"].is_contiguous(memory_format=torch.channels_last)


def test_a_file_saved_from_a_gpu_is_read_on_the_cpu(reference_root):
    path = reference_root / "mobilenetv3_small_050" / "model_last.pth"
    with zipfile.ZipFile(path) as archive:
        assert b"cuda:0" in archive.read("model_last/data.pkl")
    assert all(tensor.device.type == "cpu" for tensor in read_checkpoint(path).values())


def test_a_payload_that_would_write_a_file_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "executed"
    payload = _Payload(f"touch {mark}")
    torch.save({"state_dict": {"a": torch.ones(1)}, "opts": payload}, tmp_path / "evil.pth")
    with pytest.raises(
        BadInputError, match=r"would call (posix|nt)\.system.*nothing of it was run"
    ):
        read_checkpoint(tmp_path / "evil.pth")
    assert not mark.exists()
    # The payload is real: Python's own reader would run it.
    pickle.loads(pickle.dumps(payload))
    assert mark.exists()


def _checkpoint_of(path, content: bytes):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch {mark}'\ntR.",  # REDUCE
        b"(S'touch {mark}'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch {mark}'\no.",  # OBJ
        b"cos\nsystem\n(S'touch {mark}'\nt\x81.",  # NEWOBJ
        b'cbuiltins\neval\n(S\'open("{mark}", "w")\'\ntR.',
        b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR.",
        b"cfunctools\npartial\n(cos\nsystem\nS'touch {mark}'\ntR)R.",
        b"ccollections\nOrderedDict\n)R}S'__class__'\ncos\nsystem\nsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\nN}S'_function'\ncos\nsystem\ns\x86b.",
        b"cos\nsystem\n}S'__init__'\ncos\nsystem\nsb.",
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nNS'touch {mark}'\n\x85}tR.",
        b"S'touch {mark}'\nQ.",
    ],
)
def test_no_opcode_gets_through(tmp_path, program):
    mark = tmp_path / "executed"
    _checkpoint_of(tmp_path / "evil.pth", program.replace(b"{mark}", str(mark).encode()))
    with pytest.raises(BadInputError, match=r"evil\.pth") as caught:
        read_checkpoint(tmp_path / "evil.pth")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_reading_leaves_the_reader_unchanged(tmp_path):
    change = b"ctorch._utils\n_rebuild_tensor_v2\nN}S'__defaults__'\nN\x85s\x86b."
    _checkpoint_of(tmp_path / "evil.pth", change)
    with pytest.raises(BadInputError):
        read_checkpoint(tmp_path / "evil.pth")
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pth")
    _same(read_checkpoint(tmp_path / "good.pth"), {"a": torch.ones(2)})


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.pth"
    torch.save({"a": torch.arange(1000.0), "b": torch.ones(3, 3)}, path)
    return path


def _compress(path):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(500).tobytes())] ^= 1
    path.write_bytes(content)


def _longer_than_stored(path):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            # 1000 as the shape of a: BININT2 0xe8 0x03.
            content = content.replace(b"M\xe8\x03\x85", b"M\xe9\x03\x85")
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text("epoch,loss\n1,2\n"), "is no torch checkpoint"),
        (lambda path: path.write_bytes(b""), "is no torch checkpoint"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "is no torch checkpoint"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "truncated or damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "truncated or damaged"),
        (
            lambda path: torch.save(
                {"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False
            ),
            "torch before 1.6",
        ),
        (lambda path: torch.save({"a": torch.ones(2), "note": "x"}, path), "note is no tensor"),
        (lambda path: torch.save([1, 2], path), "holds no weights"),
        (lambda path: torch.save({"state_dict": 3}, path), "holds no weights"),
        (lambda path: torch.save({}, path), "holds no weights"),
        (lambda path: _checkpoint_of(path, b"not a pickle"), "damaged pickle"),
        (_compress, "is compressed"),
        (_flip_a_bit, "truncated or damaged"),
        (_longer_than_stored, "a reaches beyond its storage"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(good, damage, complaint):
    damage(good)
    with pytest.raises(BadInputError, match=complaint) as caught:
        read_checkpoint(good)
    assert "good.pth" in str(caught.value)
    assert "\n" not in str(caught.value)
