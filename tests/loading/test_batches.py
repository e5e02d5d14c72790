import copy

import pytest
import torch

from biomassters.loading.batches import Batch, ahead_on_device
from biomassters.loading.samples import plain_sample
from biomassters.training.micro_batches import Feed


@pytest.fixture
def batch():
    return Batch(
        images={
            "s1": torch.arange(3 * 4 * 2 * 2, dtype=torch.int16).reshape(3, 4, 2, 2),
            "s2": torch.full((3, 11, 2, 2), 65535, dtype=torch.uint16),
        },
        chip_of_month=torch.tensor([0, 0, 1]),
        agb=torch.ones(2, 2, 2),
        samples=(plain_sample(5, (0, 3)), plain_sample(7, (11,))),
        chip_ids=("a", "b"),
    )


def test_length_is_in_chips(batch):
    assert len(batch) == 2


def test_on_the_same_device_it_stays_itself(batch):
    assert batch.to("cpu") is batch


def test_on_another_device(batch):
    moved = batch.to("meta")
    assert {image.device.type for image in (*moved.images.values(), moved.agb)} == {"meta"}
    assert moved.chip_of_month.device.type == "meta"
    assert (moved.samples, moved.chip_ids) == (batch.samples, batch.chip_ids)
    assert moved.images["s2"].dtype == torch.uint16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_owner_learns_when_the_copy_is_done(batch):
    moved = batch.to("cuda")
    batch.copy_mark.wait()
    assert torch.equal(moved.images["s1"].cpu(), batch.images["s1"])


def batches(store, options):
    feed = Feed(store.split("train"), [], range(12), options, torch.device("cpu"))
    return feed.read_validation()


def test_without_a_gpu_batches_pass_as_they_are(store, small_options) -> None:
    given = [copy.deepcopy(batch) for batch in batches(store, small_options())]
    passed = ahead_on_device(iter(given), torch.device("cpu"))
    assert all(one is other for one, other in zip(passed, given, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_every_batch_arrives_as_it_was_read(store, small_options) -> None:
    options = small_options(validation_batch_size=1)
    expected = [copy.deepcopy(batch) for batch in batches(store, options)]
    device = torch.device("cuda", 0)
    for moved, was in zip(ahead_on_device(batches(store, options), device), expected, strict=True):
        assert moved.images["s1"].device == device
        for name in ("s1", "s2", "chip_of_month", "agb"):
            assert torch.equal(getattr(moved, name).cpu(), getattr(was, name))
