import logging
import math
import os

import pytest

from biomassters.workers.cores import cgroup_limit, processors, say_once, usable_cores


@pytest.fixture
def group(tmp_path):
    """Writes a control group's files and the process's membership; gives its limit."""

    def made(membership: str, files: dict[str, str]) -> float:
        own = tmp_path / "cgroup"
        own.write_text(membership)
        for name, content in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return cgroup_limit(tmp_path / "fs", own)

    return made


@pytest.mark.parametrize(
    ("content", "limit"),
    [("150000 100000\n", 1.5), ("max 100000\n", math.inf), ("50000\n", 0.5), ("", math.inf)],
)
def test_version_2(group, content, limit):
    assert group("0::/pod/box\n", {"pod/box/cpu.max": content}) == limit


def test_the_tightest_group_above_binds(group):
    files = {"cpu.max": "max 100000", "pod/cpu.max": "200000 100000", "pod/box/cpu.max": "8 1"}
    assert group("0::/pod/box\n", files) == 2.0


def test_a_container_sees_its_own_group_as_the_root(group):
    assert group("0::/docker/of-the-host\n", {"cpu.max": "300000 100000\n"}) == 3.0


def test_version_1(group):
    files = {"cpu/box/cpu.cfs_quota_us": "250000\n", "cpu/box/cpu.cfs_period_us": "100000\n"}
    assert group("5:memory:/box\n4:cpu,cpuacct:/box\n", files) == 2.5
    files["cpu/box/cpu.cfs_quota_us"] = "-1\n"
    assert group("4:cpu,cpuacct:/box\n", files) == math.inf


def test_no_groups_no_limit(tmp_path):
    assert cgroup_limit(tmp_path, tmp_path / "missing") == math.inf


def test_what_the_user_set_wins(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert usable_cores() == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert usable_cores() == 3
    for nothing in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert usable_cores() == processors()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_processors_are_those_that_the_process_may_run_on():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert processors() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_log_says_it_once(caplog):
    caplog.set_level(logging.INFO)
    say_once.cache_clear()  # another test of this process may have said it
    for _ in range(2):
        say_once(2, 2, 1)
        say_once(16, 1, 16)
    assert [record.message for record in caplog.records] == [
        "2 cores: 2 parts of a batch, 1 thread each.",
        "16 cores: batches whole, 16 threads each.",
    ]
