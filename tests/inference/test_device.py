import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.inference.device import autocast, choose_device


def test_auto_is_the_gpu_when_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


def test_device_that_is_not_there_is_named():
    with pytest.raises(BadInputError, match="no cuda:99; set it to auto or cpu"):
        choose_device("cuda:99")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_precision_of_products_on_a_cpu(precision, dtype):
    with autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
