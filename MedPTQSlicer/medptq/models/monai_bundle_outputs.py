"""How a bundle runs its network over a scan, and what it makes of the outputs."""

from __future__ import annotations

from dataclasses import dataclass, field

from medptq.models.monai_bundle_config import Component, Config
from medptq.models.monai_bundle_preprocessing import Preprocessing, size_of, transform_name
from medptq.models.segmentation_model import Blending, Interpolated, Step
from medptq.progress import Reporter


@dataclass(frozen=True)
class Windows:
    """How the network is run over a scan.

    Attributes:
        size: Voxels of a window along D, H and W.
        overlap: Share of a window, from 0 to below 1, that overlaps its neighbour.
        blending: How much the voxels of a window count.
        pad_value: What surrounds scans that are smaller than a window.
    """

    size: list[int]
    overlap: float
    blending: Blending
    pad_value: float


@dataclass
class Finishing:
    """What is made of the outputs.

    Attributes:
        interpolated: What is interpolated on the way back to the scan.
        steps: Steps on the label map.
    """

    interpolated: Interpolated = "labels"
    steps: list[Step] = field(default_factory=list)


def windows_of(config: Config, preprocessing: Preprocessing) -> Windows:
    """Translate a bundle's ``inferer``.

    Args:
        config: The bundle's configuration.
        preprocessing: What is done before.

    Raises:
        ModelError: ``model.bundle`` - it does what ours does not.
    """
    component = config.component("inferer")
    if component.target == "SimpleInferer" and preprocessing.size is not None:
        component.done()
        return Windows(preprocessing.size, 0.0, "constant", 0.0)
    if component.target not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt"):
        raise component.refused("only a SlidingWindowInferer can be used here")
    size = size_of(component, "roi_size")
    shares = component.take("overlap", 0.25)
    shares = shares if isinstance(shares, list) else [shares]
    overlap = shares[0] if len(set(map(str, shares))) == 1 else None
    if isinstance(overlap, bool) or not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise component.refused('"overlap" is not one share from 0 to below 1')
    blending = component.only("mode", "constant", "gaussian")
    component.only("sigma_scale", 0.125, [0.125, 0.125, 0.125])
    component.only("padding_mode", "constant")
    pad_value = component.number("cval", 0.0)
    component.only("with_coord", False)
    component.ignore("sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map")
    component.ignore("cpu_thresh", "buffer_steps", "buffer_dim")
    component.done()
    if preprocessing.padded is not None and (
        pad_value != 0
        or any(more > length for more, length in zip(preprocessing.padded, size, strict=True))
    ):
        raise component.refused("the scan is padded to more than a window")
    return Windows(size, float(overlap), blending, float(pad_value))


def finishing_of(
    config: Config, preprocessing: Preprocessing, labels: list[int], reporter: Reporter
) -> Finishing:
    """Translate a bundle's ``postprocessing``.

    Args:
        config: The bundle's configuration.
        preprocessing: What is done before.
        labels: The values that the label map may have.
        reporter: Warned of what is not quite the same.

    Raises:
        ModelError: ``model.bundle`` - it does what ours does not.
    """
    compose = config.component("postprocessing")
    if compose.target != "Compose":
        raise compose.refused("it is not a Compose of transforms")
    state = _State(preprocessing, labels, reporter)
    for component in config.components(compose.raw("transforms"), f"{compose.where}::transforms"):
        state.read(component)
    if not state.is_discrete:
        raise compose.refused("no AsDiscreted with argmax makes labels of the outputs")
    if not state.is_inverted and preprocessing.resampled is not None:
        reporter.warn(
            f"The MONAI bundle {config.bundle} leaves its label map on the network's grid; here it"
            " is brought back to the scan's, to each voxel the nearest label."
        )
    return state.finishing


class _State:
    def __init__(self, before: Preprocessing, labels: list[int], reporter: Reporter) -> None:
        self.before = before
        self.labels = labels
        self.reporter = reporter
        self.finishing = Finishing()
        self.is_softmax = self.is_discrete = self.is_inverted = False
        self.key: str | None = None

    def read(self, component: Component) -> None:
        name = transform_name(component)
        if name in ("EnsureType", "ToTensor", "SaveImage", "DeleteItems", "SelectItems"):
            return
        if name in ("CopyItems", "ToDevice"):
            return
        component.ignore("allow_missing_keys")
        if "keys" in component:
            keys = component.take("keys")
            names = keys if isinstance(keys, list) else [keys]
            if self.key is None and names:
                self.key = str(names[0])
            if self.key not in names:
                return
        if name == "Activations":
            self._activations(component)
        elif name == "AsDiscrete":
            self._as_discrete(component)
        elif name == "Invert":
            self._invert(component)
        elif name == "KeepLargestConnectedComponent":
            self._largest_component(component)
        else:
            raise component.refused("no step of postprocessing does the same")
        component.done()

    def _activations(self, component: Component) -> None:
        if component.flag("sigmoid", False):
            raise component.refused(
                "with sigmoid a voxel may have several labels at once, which no label map here can"
            )
        component.only("other", None)
        self.is_softmax |= component.flag("softmax", False)

    def _as_discrete(self, component: Component) -> None:
        for name in ("to_onehot", "threshold", "rounding"):
            component.only(name, None)
        if not component.flag("argmax", False):
            raise component.refused('"argmax" is not true')
        component.ignore("dim", "keepdim")
        self.is_discrete = True

    def _invert(self, component: Component) -> None:
        if component.raw("transform") not in ("@preprocessing", "$@preprocessing"):
            raise component.refused('"transform" is not the preprocessing')
        nearest = component.flag("nearest_interp", True)
        component.only("post_func", None)
        component.ignore("orig_keys", "meta_keys", "orig_meta_keys", "meta_key_postfix")
        component.ignore("to_tensor", "device")
        if self.is_discrete and not nearest and self.before.resampled is not None:
            raise component.refused("labels are interpolated as if they were amounts")
        if nearest or self.is_discrete or self.before.resampled == "nearest":
            self.finishing.interpolated = "labels"
        else:
            self.finishing.interpolated = "probabilities" if self.is_softmax else "outputs"
        self.is_inverted = True

    def _largest_component(self, component: Component) -> None:
        labels = component.take("applied_labels", None)
        labels = self.labels if labels is None else labels
        labels = labels if isinstance(labels, list) else [labels]
        component.only("is_onehot", None, False)
        if not component.flag("independent", True) and len(labels) > 1:
            raise component.refused("several labels are taken for one")
        if not self.is_discrete:
            raise component.refused("it comes before there are labels")
        connectivity = component.only("connectivity", None, 3, 1)
        component.only("num_components", 1)
        if any(label not in self.labels for label in labels):
            raise component.refused('"applied_labels" names what the network does not find')
        if not self.is_inverted and self.before.resampled is not None:
            self.reporter.warn(
                f"The MONAI bundle {component.config.bundle} keeps the largest component on the"
                " network's grid; here it is done on the scan's."
            )
        reach = "faces" if connectivity == 1 else "corners"
        step = {"step": "largest_component", "labels": labels, "connectivity": reach}
        self.finishing.steps.append(step)
