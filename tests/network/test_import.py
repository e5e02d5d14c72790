import subprocess
import sys

WITH_TORCH_AND_TIMM_ALONE = """
import sys

sys.modules.update(dict.fromkeys(["pydantic", "pandas", "zarr", "kedro", "rasterio"]))
sys.path.insert(0, sys.argv[1])
import network as benchmark
import torch

case = benchmark.SimpleNamespace(device="cpu", backbone="lcnet_035", size=32, batch=1)
plain, ours = benchmark.build(case)
ways = benchmark.forwards(plain.eval(), benchmark.fold_batch_norm(ours))
difference = benchmark.largest_difference(ways, benchmark.Images(case, 1, drop=True))
assert difference < 1e-4, difference
"""


def test_options_are_imported_without_torch():
    code = "import sys, biomassters.network as network; network.NetworkOptions()"
    code += "; assert not {'torch', 'timm'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_benchmark_needs_torch_and_timm_alone(pytestconfig):
    folder = pytestconfig.rootpath / "benchmarks"
    code = [sys.executable, "-c", WITH_TORCH_AND_TIMM_ALONE, str(folder)]
    subprocess.run(code, check=True)
