"""MedPTQ: INT8 post-training quantization for 3D medical image segmentation.

Example:
    >>> import medptq                                              # doctest: +SKIP
    >>> model = medptq.load_model("deepbet")                       # doctest: +SKIP
    >>> int8 = medptq.quantize(model, scans="scans/", output="deepbet-int8")  # doctest: +SKIP
    >>> seg = medptq.segment(int8, "t1.nii.gz", output="brain.nii.gz")        # doctest: +SKIP
    >>> rep = medptq.compare(model, int8, "t1.nii.gz", output="report")       # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from medptq.api import compare, load_model, quantize, segment
    from medptq.benchmarking.benchmark import benchmark
    from medptq.errors import MedPTQError
    from medptq.housekeeping import clear_cache, list_models, remove_model
    from medptq.models.importing import import_model
    from medptq.progress import Reporter
    from medptq.quantization.recipe import Recipe
    from medptq.scans.inspecting import inspect_scans
    from medptq.studies import auto_quantize, sensitivity

__all__ = [
    "MedPTQError",
    "Recipe",
    "Reporter",
    "auto_quantize",
    "benchmark",
    "clear_cache",
    "compare",
    "import_model",
    "inspect_scans",
    "list_models",
    "load_model",
    "quantize",
    "remove_model",
    "segment",
    "sensitivity",
]

_HOMES = {
    "MedPTQError": "medptq.errors",
    "Recipe": "medptq.quantization.recipe",
    "Reporter": "medptq.progress",
    "benchmark": "medptq.benchmarking.benchmark",
    "auto_quantize": "medptq.studies",
    "clear_cache": "medptq.housekeeping",
    "import_model": "medptq.models.importing",
    "inspect_scans": "medptq.scans.inspecting",
    "list_models": "medptq.housekeeping",
    "remove_model": "medptq.housekeeping",
    "sensitivity": "medptq.studies",
}


def __getattr__(name: str) -> Any:
    """Import a verb when it is first asked for: ``import medptq`` itself is instant."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES.get(name, "medptq.api")), name)
