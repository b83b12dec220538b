"""The verbs are there under the package's own name, whatever else was imported before."""

from __future__ import annotations

import subprocess
import sys


def test_verbs_are_functions_even_after_the_rooms_were_imported():
    code = (
        "import medptq, medptq.api, medptq.cli, medptq.quantization.recipe\n"
        "for name in medptq.__all__: assert callable(getattr(medptq, name)), name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
