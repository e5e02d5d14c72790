"""Every dataset class: what is saved is loaded, and what is missing is one sentence."""

import numpy as np
import pytest
import torch
from kedro.io import DatasetError

from biomassters.chips.predicted_maps import Prediction
from biomassters.chips.scaling import BandScaling
from biomassters.datasets.chip_store import ChipStoreDataset
from biomassters.datasets.network_weights import NetworkWeights, NetworkWeightsDataset
from biomassters.datasets.paths import FileDataset, FolderDataset, PlaceDataset
from biomassters.datasets.predictions import (
    Predictions,
    PredictionsDataset,
    Submission,
    SubmissionDataset,
)
from biomassters.datasets.raw_archive import ArchiveDataset
from biomassters.errors import BadInputError
from biomassters.hooks import plain_message
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.simulated_chips import SimulatedChips

TINY = SimulationOptions(train_chips=2, test_chips=1, chip_size=32)


def sentence_of(action) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (Kedro wraps it in its own)
        action()
    message = plain_message(caught.value)
    assert message is not None, caught.value
    return message


def test_an_archive_is_saved_and_loaded(tmp_path):
    dataset = ArchiveDataset(filepath=str(tmp_path / "raw"), writable=True)
    assert not dataset.exists()
    dataset.save(SimulatedChips(TINY))
    assert dataset.exists()
    assert len(dataset.load().chip_ids("train")) == 2


def test_an_archive_that_is_not_writable_says_what_to_run(tmp_path):
    dataset = ArchiveDataset(filepath=str(tmp_path / "raw"))
    assert "from_archive" in sentence_of(lambda: dataset.save(SimulatedChips(TINY)))
    assert not (tmp_path / "raw").exists()


def test_a_missing_store_is_a_sentence(tmp_path):
    dataset = ChipStoreDataset(filepath=str(tmp_path / "chips.zarr"))
    assert "chips.zarr" in sentence_of(dataset.load)


def test_predictions_and_submission_go_together(tmp_path):
    predictions = PredictionsDataset(filepath=str(tmp_path / "test"))
    assert "run the inference pipeline" in sentence_of(predictions.load)
    agb = np.full((32, 32), 7.0, np.float32)
    predictions.save(Predictions([Prediction("0000000a", agb)], "weights"))
    folder = predictions.load()
    submission = SubmissionDataset(filepath=str(tmp_path / "submission.tar.gz"))
    submission.save(Submission(folder, ("0000000a",), (32, 32)))
    assert submission.load().is_file()
    wrong = Submission(folder, ("0000000a", "0000000b"), (32, 32))
    before = submission.load().read_bytes()
    assert "0000000b" in sentence_of(lambda: submission.save(wrong))
    assert submission.load().read_bytes() == before


def test_weights_come_back_with_their_description(tmp_path):
    options = NetworkOptions(decoder_channels=(8, 8, 8, 8, 8))
    network = AgbNet(options, BandScaling.reference()).eval()
    dataset = NetworkWeightsDataset(filepath=str(tmp_path / "weights.safetensors"))
    assert "weights.json is missing" in sentence_of(dataset.load)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["segmentation_head.bias"] = torch.tensor([63.0])
    dataset.save(NetworkWeights(network, {"data_fingerprint": "abc"}, state=state))
    loaded = dataset.load()
    assert loaded.description["data_fingerprint"] == "abc"
    assert loaded.network.segmentation_head.bias.item() == 63.0


def test_a_folder_is_made_when_loaded_and_never_saved(tmp_path):
    dataset = FolderDataset(filepath=str(tmp_path / "a" / "b"))
    assert dataset.load().is_dir()
    with pytest.raises(DatasetError, match="written by the code that uses it"):
        dataset.save("anything")


def test_a_missing_file_names_the_parameter(tmp_path):
    dataset = FileDataset(filepath=str(tmp_path / "x.pth"), parameter="reference_checkpoint")
    assert "--params reference_checkpoint=PATH" in sentence_of(dataset.load)
    (tmp_path / "x.pth").write_bytes(b"1")
    assert dataset.load() == tmp_path / "x.pth"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    dataset = FolderDataset(filepath=str(tmp_path / "file" / "scratch"))
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, BadInputError)
    assert "can't be made (Not a directory)" in str(caught.value.__cause__)


def test_a_place_is_missing_only_where_a_node_makes_what_lies_there(tmp_path):
    path = tmp_path / "agb.tif"
    brought = PlaceDataset(filepath=str(path))
    made = PlaceDataset(filepath=f"{tmp_path}/./agb.tif", made=True)
    assert brought.exists()
    assert not made.exists()
    path.touch()
    made.save(str(path))
    assert made.exists()
    assert made.load() == f"{tmp_path}/./agb.tif"
    with pytest.raises(DatasetError, match=r"other\.tif was written, but the catalog says"):
        made.save(str(tmp_path / "other.tif"))
