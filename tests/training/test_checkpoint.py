import logging
import pickle
import resource
from pathlib import Path

import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.training.checkpoint import CheckpointFolder, content_crc


def content(value: float = 1.0, size: int = 100) -> dict:
    return {
        "weights": {"layer.weight": torch.full((size,), value), "steps": torch.tensor(7)},
        "position": {"epoch": 3, "best_score": float("inf")},
        "history": [{"epoch": 1, "loss": float("nan")}],
        "best_weights": None,
    }


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoints", kept=2)


def newest_value(folder: CheckpointFolder) -> float:
    loaded = folder.newest()
    assert loaded is not None
    return loaded["weights"]["layer.weight"][0].item()


def test_what_was_saved_is_loaded(folder: CheckpointFolder) -> None:
    folder.save(content(0.1), epoch=3, step=2)
    loaded = folder.newest()
    assert loaded is not None
    assert torch.equal(loaded["weights"]["layer.weight"], content(0.1)["weights"]["layer.weight"])
    assert loaded["position"] == content()["position"]
    assert loaded["best_weights"] is None


def test_an_empty_folder_has_no_checkpoint(folder: CheckpointFolder) -> None:
    assert folder.newest() is None


def test_the_newest_counts_by_epoch_then_step_and_few_are_kept(folder: CheckpointFolder) -> None:
    for number, (epoch, step) in enumerate([(9, 5), (10, 0), (10, 7), (11, 0)]):
        folder.save(content(number), epoch, step)
    names = [file.name for file in folder.files()]
    assert names == ["checkpoint_00011_000000.pt", "checkpoint_00010_000007.pt"]
    assert newest_value(folder) == 3
    assert not list(folder.path.glob("*.tmp"))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_newest_is_set_aside_for_the_one_before(folder, caplog, share) -> None:
    folder.save(content(1.0), 1, 0)
    newest = folder.save(content(2.0), 2, 0)
    whole = newest.read_bytes()
    newest.write_bytes(whole[: int(len(whole) * share)])
    with caplog.at_level(logging.WARNING):
        assert newest_value(folder) == 1.0
    assert f"Checkpoint {newest} is damaged" in caplog.text
    assert [file.name for file in folder.files()] == ["checkpoint_00001_000000.pt"]
    folder.save(content(3.0), 2, 0)
    assert newest_value(folder) == 3.0


def test_a_flipped_bit_in_the_weights_is_noticed(folder: CheckpointFolder) -> None:
    folder.save(content(1.0), 1, 0)
    newest = folder.save(content(2.0), 2, 0)
    place = newest.read_bytes().index(torch.full((4,), 2.0).numpy().tobytes())
    with newest.open("r+b") as file:
        file.seek(place + 1)
        file.write(b"\x01")
    assert newest_value(folder) == 1.0


def test_none_readable_is_refused_with_the_remedy(folder: CheckpointFolder) -> None:
    folder.save(content(), 1, 0).write_bytes(b"")
    with pytest.raises(BadInputError, match=r"training\.restart=true"):
        folder.newest()


class Mischief:
    def __reduce__(self):
        return print, ("run on loading",)


def test_code_in_a_checkpoint_is_not_run(folder: CheckpointFolder, capsys) -> None:
    folder.save(content(1.0), 1, 0)
    torch.save({**content(), "x": Mischief()}, folder.path / "checkpoint_00002_000000.pt")
    (folder.path / "checkpoint_00003_000000.pt").write_bytes(pickle.dumps(Mischief(), protocol=2))
    assert newest_value(folder) == 1.0
    assert "run on loading" not in capsys.readouterr().out  # the log may print there as well


def test_a_later_format_is_refused(folder: CheckpointFolder) -> None:
    saved = folder.save(content(), 1, 0)
    torch.save({**torch.load(saved, weights_only=True), "format": 99}, saved)
    with pytest.raises(BadInputError, match="format 99"):
        folder.newest()


def test_a_full_disk_leaves_the_checkpoint_before(folder: CheckpointFolder) -> None:
    folder.save(content(1.0), 1, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(BadInputError, match=r"_000000\.pt can't be written \(File too large"):
            folder.save(content(2.0, size=1_000_000), 2, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert newest_value(folder) == 1.0
    assert len(list(folder.path.iterdir())) == 1


def test_other_files_are_left_alone(folder: CheckpointFolder) -> None:
    folder.save(content(), 1, 0)
    notes = folder.path / "checkpoint_notes.pt"
    notes.write_text("mine")
    folder.clear()
    assert folder.newest() is None
    assert notes.exists()


def test_the_checksum_is_of_names_and_values_not_of_their_layout() -> None:
    weights = torch.rand(2, 3, 4, 5)
    crc = content_crc({"a": weights})
    assert content_crc({"a": weights.to(memory_format=torch.channels_last)}) == crc
    assert content_crc({"b": weights}) != crc
    assert content_crc({"a": weights + 1}) != crc
    assert content_crc({"a": weights.bfloat16()}) != crc


def whole_content(value: float = 1.0) -> dict:
    """Like a run's: optimizer, averaged and best weights beside those in training."""
    weights = {"layer.weight": torch.full((100,), value)}
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.full((100,), value + 0.25)}
    return {
        **content(value),
        "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.99)}]},
        "averaged": {name: tensor + 0.5 for name, tensor in weights.items()},
        "best_weights": {name: tensor + 0.75 for name, tensor in weights.items()},
    }


@pytest.mark.parametrize("extra", [0.0, 0.25, 0.5, 0.75], ids=["weights", "moments", "ema", "best"])
def test_a_flipped_bit_in_any_tensor_is_noticed(folder: CheckpointFolder, extra: float) -> None:
    folder.save(whole_content(1.0), 1, 0)
    newest = folder.save(whole_content(2.0), 2, 0)
    whole = bytearray(newest.read_bytes())
    whole[whole.index(torch.full((4,), 2.0 + extra).numpy().tobytes()) + 1] ^= 1
    newest.write_bytes(whole)
    assert newest_value(folder) == 1.0


def test_a_flipped_bit_in_a_number_or_text_is_noticed(folder: CheckpointFolder) -> None:
    folder.save(content(1.0), 1, 0)
    newest = folder.save({**content(2.0), "experiment": {"seed": "seed-20261125"}}, 2, 0)
    newest.write_bytes(newest.read_bytes().replace(b"seed-20261125", b"seed-20261124"))
    assert newest_value(folder) == 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_that_is_not_finite_is_set_aside(folder, caplog, value) -> None:
    folder.save(whole_content(1.0), 1, 0)
    broken = whole_content(2.0)
    broken["optimizer"]["state"][0]["exp_avg"][7] = value
    folder.save(broken, 2, 0)
    assert newest_value(folder) == 1.0
    assert "holds NaN or infinity in optimizer.state.0.exp_avg" in caplog.text


def test_a_refusal_does_not_pass_on_the_advice_to_run_code(folder, caplog) -> None:
    folder.save(content(1.0), 1, 0)
    torch.save({**content(), "x": Mischief()}, folder.path / "checkpoint_00002_000000.pt")
    assert newest_value(folder) == 1.0
    assert "more than tensors, numbers and text" in caplog.text
    assert "weights_only" not in caplog.text
    assert "trust" not in caplog.text


def test_an_older_format_is_refused_with_the_remedy(folder: CheckpointFolder) -> None:
    saved = folder.save(content(), 1, 0)
    old = {**content(), "format": 1, "weights_crc": 12345}
    torch.save(old, saved)
    with pytest.raises(BadInputError, match=r"format 1, .* training\.restart=true"):
        folder.newest()
