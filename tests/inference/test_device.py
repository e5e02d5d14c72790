import threading
import time
from pathlib import Path

import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.inference.device import (
    WIDE_CHANNELS,
    PartThreads,
    autocast,
    choose_device,
    part_threads,
    precision_used,
    threads_inside,
)


def test_auto_is_the_gpu_when_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


def test_device_that_is_not_there_is_named():
    with pytest.raises(BadInputError, match="no cuda:99; set it to auto or cpu"):
        choose_device("cuda:99")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_precision_of_products_on_a_cpu(precision, dtype):
    with autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="looks into /proc/cpuinfo")
def test_auto_is_bfloat16_for_wide_networks_on_a_cpu_that_has_it():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    fast = "bfloat16" if flags & {"avx512_bf16", "amx_bf16"} else "float32"
    cpu = torch.device("cpu")
    assert precision_used(cpu, "auto", WIDE_CHANNELS) == fast
    assert precision_used(cpu, "auto", WIDE_CHANNELS - 1) == "float32"
    assert precision_used(cpu, "float32", WIDE_CHANNELS) == "float32"
    assert precision_used(cpu, "bfloat16", 8) == "bfloat16"


@pytest.mark.parametrize(
    ("parts", "cores", "count", "inside"),
    [(2, 2, 2, 1), (4, 2, 2, 1), (2, 1, 1, 1), (2, 5, 2, 2), (1, 4, 1, 4), (4, 16, 4, 4)],
)
def test_cores_are_shared_out(parts, cores, count, inside):
    threads = PartThreads(parts, cores)
    assert (threads.count, threads.inside) == (count, inside)
    assert threads.run(lambda _: torch.get_num_threads(), range(parts)) == [inside] * parts


def test_results_come_in_the_order_of_the_parts():
    def work(number: int) -> int:
        time.sleep(0.02 * (4 - number))
        return number

    assert PartThreads(4, 4).run(work, range(4)) == [0, 1, 2, 3]


def test_parts_are_worked_at_the_same_time_and_the_callers_threads_stay():
    meeting = threading.Barrier(2, timeout=60)  # one after another, they would never meet
    before = torch.get_num_threads()
    PartThreads(2, 2).run(lambda _: meeting.wait(), range(2))
    assert torch.get_num_threads() == before


def test_modes_of_the_caller_hold_in_the_threads():
    threads = PartThreads(2, 2)

    def modes(_: int) -> tuple[bool, bool, torch.dtype]:
        product = torch.ones(2, 2, requires_grad=True) @ torch.ones(2, 2)
        return torch.is_inference_mode_enabled(), product.requires_grad, product.dtype

    assert threads.run(modes, range(2)) == [(False, True, torch.float32)] * 2
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert threads.run(modes, range(2)) == [(True, False, torch.bfloat16)] * 2
    with torch.no_grad():
        assert threads.run(modes, range(2)) == [(False, False, torch.float32)] * 2


def test_the_first_parts_error_is_raised_when_nobody_works_any_more():
    ended = []

    def work(number: int) -> None:
        if number == 1:
            raise ValueError("of part 1")
        time.sleep(0.1)
        ended.append(number)
        if number == 2:
            raise KeyError("of part 2")

    with pytest.raises(ValueError, match="part 1"):
        PartThreads(3, 3).run(work, range(3))
    assert sorted(ended) == [0, 2]


def test_threads_are_made_once_and_again_for_another_caller():
    mine = part_threads(2, 2)
    assert part_threads(2, 2) is mine
    others = []
    other = threading.Thread(target=lambda: others.append(part_threads(2, 2)))
    other.start()
    other.join()
    assert others[0] is not mine


def test_threads_inside_end_with_the_block():
    before = torch.get_num_threads()
    with threads_inside(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
