import subprocess
import sys


def test_options_are_imported_without_torch():
    code = (
        "import sys, biomassters.network as n; n.NetworkOptions(); assert 'timm' not in sys.modules"
    )
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
