import pytest
import torch

from biomassters.inference.views import VIEWS, apply_view

IMAGE = torch.tensor([[1, 2, 3], [4, 5, 6]])


def test_values_worked_by_hand():
    assert apply_view(IMAGE, "identity").tolist() == [[1, 2, 3], [4, 5, 6]]
    assert apply_view(IMAGE, "left_right").tolist() == [[3, 2, 1], [6, 5, 4]]
    assert apply_view(IMAGE, "up_down").tolist() == [[4, 5, 6], [1, 2, 3]]
    assert apply_view(IMAGE, "both").tolist() == [[6, 5, 4], [3, 2, 1]]
    assert torch.equal(apply_view(IMAGE, "both"), torch.rot90(IMAGE, 2))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [torch.int16, torch.uint16, torch.float32, torch.bfloat16])
def test_every_view_undoes_itself_in_every_type(view, dtype):
    images = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(dtype)
    seen = apply_view(images, view)
    assert seen.dtype == dtype
    assert seen.shape == images.shape
    assert torch.equal(apply_view(seen, view), images)


def test_unknown_view_is_named():
    with pytest.raises(ValueError, match=r"'diagonal'; choose from identity, left_right"):
        apply_view(IMAGE, "diagonal")
