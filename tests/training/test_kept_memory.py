import ctypes
import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
MEBIBYTES = 100  # 25,600 pages

# In a process of its own, whose memory no other test has left in pieces.
SCRIPT = """
import json, resource
from pathlib import Path
import torch
from biomassters.training.kept_memory import kept_memory

def faults():
    "Page faults of taking memory, writing to it and freeing it."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(100 * 2**18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20

found = {"before": resident_mib()}
with kept_memory(torch.device("meta")):
    faults()
    found["elsewhere"] = resident_mib()
with kept_memory(torch.device("cpu")):
    # An aligned block may not fit where one of its size was, until neighbours are free as well.
    found["faults"] = [faults() for _ in range(40)]
    found["inside"] = resident_mib()
found["after"] = resident_mib()
print(json.dumps(found))
"""


def test_freed_memory_is_taken_again_without_faults_until_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout)
    assert found["elsewhere"] < found["before"] + 0.1 * MEBIBYTES
    assert found["faults"][-1] < 100
    assert found["inside"] > found["before"] + 0.9 * MEBIBYTES
    assert found["after"] < found["inside"] - 0.9 * MEBIBYTES
