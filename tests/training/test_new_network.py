import torch


def test_the_seed_decides_the_weights_and_nothing_else_does(new_small_network) -> None:
    torch.manual_seed(1)
    first = new_small_network(seed=7).state_dict()
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    again = new_small_network(seed=7).state_dict()
    assert torch.equal(torch.rand(1), expected)
    other = new_small_network(seed=8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "encoder.model.conv_stem.weight"
    assert not torch.equal(first[name], other[name])
