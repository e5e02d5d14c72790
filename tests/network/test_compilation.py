import logging

import pytest
import torch

from biomassters.network.compilation import CompiledOrPlain


def _double(x):
    return 2 * x


def test_without_a_compiler_a_function_runs_plainly_and_says_so_once(monkeypatch, caplog):
    def no_compiler(function, **_):
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", no_compiler)
    double = CompiledOrPlain(_double, "decoder")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            torch.testing.assert_close(double(torch.ones(2)), torch.full((2,), 2.0))
    assert caplog.messages == [
        "The decoder runs uncompiled: torch.compile failed (no C++ compiler)."
    ]


@pytest.mark.slow
def test_a_compiled_function_gives_the_same():
    double = CompiledOrPlain(_double, "decoder")
    torch.testing.assert_close(double(torch.ones(2)), torch.full((2,), 2.0))
