import pytest
import torch

from biomassters.loading.batch import Batch
from biomassters.loading.sampling import plain_sample


@pytest.fixture
def batch():
    return Batch(
        s1=torch.arange(3 * 4 * 2 * 2, dtype=torch.int16).reshape(3, 4, 2, 2),
        s2=torch.full((3, 11, 2, 2), 65535, dtype=torch.uint16),
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
    assert {moved.s1.device.type, moved.s2.device.type, moved.agb.device.type} == {"meta"}
    assert moved.chip_of_month.device.type == "meta"
    assert (moved.samples, moved.chip_ids) == (batch.samples, batch.chip_ids)
    assert moved.s2.dtype == torch.uint16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_owner_learns_when_the_copy_is_done(batch):
    moved = batch.to("cuda")
    batch.copy_mark.wait()
    assert torch.equal(moved.s1.cpu(), batch.s1)
