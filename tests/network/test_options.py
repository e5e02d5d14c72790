import subprocess
import sys

import pytest

from biomassters.network.options import NetworkOptions


def test_options_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"decoder_channels needs 5 widths"):
        NetworkOptions(decoder_channels=(3, 2))
    with pytest.raises(ValueError, match=r"decoder_channels needs 5 widths of at least 1"):
        NetworkOptions(decoder_channels=(3, 2, 1, 1, 0))


def test_options_are_imported_without_torch():
    code = "import sys; from biomassters.network.options import NetworkOptions; NetworkOptions()"
    code += "; assert not {'torch', 'timm'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
