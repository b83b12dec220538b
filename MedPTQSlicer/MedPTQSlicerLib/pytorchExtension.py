"""PyTorch through Slicer's PyTorch extension, which chooses the build for the GPU and its driver.

https://github.com/fepegar/SlicerPyTorch
"""

from __future__ import annotations

import importlib
import os

from medptq.installation.facts import Facts
from MedPTQSlicerLib.installErrors import InstallationError, constraintLines
from MedPTQSlicerLib.jobFolder import jobFolder
from MedPTQSlicerLib.requirements import loadRequirements

_CONSTRAINTS = "PIP_CONSTRAINT"


def hasPyTorchExtension() -> bool:
    """Tell whether the extension is installed."""
    import slicer

    return hasattr(slicer.modules, "pytorchutils")


def installPyTorch(facts: Facts) -> bool:
    """Let the extension install PyTorch into Slicer's Python; it asks first, and Slicer waits.

    Args:
        facts: What Slicer's Python has; NumPy and SimpleITK are kept as they are.

    Returns:
        Whether it was installed; if not, the user has declined.

    Raises:
        InstallationError: ``pytorch`` - the extension failed.
    """
    extension = importlib.import_module("PyTorchUtils")  # another extension's module
    [torch] = [each for each in loadRequirements() if each.name == "torch"]
    before = os.environ.get(_CONSTRAINTS)
    with jobFolder() as folder:
        constraints = folder / "constraints.txt"
        constraints.write_text(constraintLines(facts), encoding="utf-8")
        # As a URL, since pip takes a space for the end of a path; it reaches every pip below.
        os.environ[_CONSTRAINTS] = " ".join(filter(None, [before, constraints.as_uri()]))
        try:
            done = extension.PyTorchUtilsLogic().installTorch(
                askConfirmation=True, torchVersionRequirement=str(torch.specifier)
            )
        except Exception as error:  # the extension raises all kinds
            raise InstallationError(
                "pytorch",
                "PyTorch was not installed",
                why=f"Slicer's PyTorch extension failed ({type(error).__name__}: {error})",
                todo="Install it in the module PyTorch Utils, which shows more, and check again",
            ) from error
        finally:
            if before is None:
                del os.environ[_CONSTRAINTS]
            else:
                os.environ[_CONSTRAINTS] = before
    return done is not None
