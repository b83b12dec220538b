"""Which of our steps a bundle's transforms are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medptq.models.monai_bundle_config import Component, Config, single
from medptq.models.segmentation_model import Step

_MOST_NESTED = 8
_CODES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


@dataclass
class Preprocessing:
    """What a bundle does to a scan before the network.

    Attributes:
        steps: The same in our steps.
        resampled: How voxels are interpolated where the voxel size is changed; None if it is not.
        padded: To how many voxels the scan is filled up with zeros at the end, if it is smaller.
        size: To how many voxels every scan is stretched, if it is.
    """

    steps: list[Step] = field(default_factory=list)
    resampled: str | None = None
    padded: list[int] | None = None
    size: list[int] | None = None


def preprocessing_of(config: Config, channels: int) -> Preprocessing:
    """Translate a bundle's transforms.

    Args:
        config: The bundle's configuration.
        channels: Of the scans.

    Raises:
        ModelError: ``model.bundle`` - one of them does what none of our steps does exactly.
    """
    reader = _Reader(config, channels)
    reader.read_all(config.component("preprocessing"))
    return reader.found


class _Reader:
    """Goes through the transforms, and remembers what the later ones depend on."""

    def __init__(self, config: Config, channels: int) -> None:
        self.config = config
        self.channels = channels
        self.found = Preprocessing()
        self.image_key: str | None = None
        self.spacing: list[float] | None = None

    def read_all(self, compose: Component, depth: int = 0) -> None:
        if depth > _MOST_NESTED:
            raise compose.refused("transforms are in each other too deeply, or in a circle")
        if compose.target != "Compose":
            raise compose.refused("it is not a Compose of transforms")
        compose.ignore("map_items", "unpack_items", "log_stats", "lazy")
        transforms = compose.raw("transforms")
        compose.done()
        for component in self.config.components(transforms, f"{compose.where}::transforms"):
            if component.target == "Compose":
                self.read_all(component, depth + 1)
            elif self._is_of_the_image(component):
                self._read(component)

    def _read(self, component: Component) -> None:
        function = _TRANSFORMS.get(transform_name(component))
        if function is None:
            raise component.refused("no step of preprocessing does the same")
        steps = function(self, component)
        component.done()
        if steps and self.found.padded is not None:
            raise component.refused(
                "it follows a padding, and only at the end of all can there be one"
            )
        self.found.steps.extend(steps)

    def _is_of_the_image(self, component: Component) -> bool:
        """Tell whether a transform is applied to the image, which the first one reads."""
        component.ignore("allow_missing_keys", "lazy")
        if "keys" not in component:
            return True
        keys = component.take("keys")
        names = keys if isinstance(keys, list) else [keys]
        if self.image_key is None and names:
            self.image_key = str(names[0])
        return self.image_key in names

    def require_one_channel_or(self, component: Component, is_channel_wise: bool) -> None:
        if not is_channel_wise and self.channels > 1:
            raise component.refused("its channels are scaled together")


def transform_name(component: Component) -> str:
    """Return a transform's name, without what marks those that take dictionaries."""
    for suffix in ("Dict", "d", "D"):
        name = component.target.removesuffix(suffix)
        if name != component.target and (name in _TRANSFORMS or name in OUTPUT_TRANSFORMS):
            return name
    return component.target


OUTPUT_TRANSFORMS = frozenset(
    {"Activations", "AsDiscrete", "Invert", "KeepLargestConnectedComponent", "SaveImage"}
    | {"CopyItems", "DeleteItems", "SelectItems"}
)
"""Names of the transforms of outputs, in the same way."""


def _nothing(_: _Reader, component: Component) -> list[Step]:
    for name in ("dtype", "output_dtype"):
        component.require_float(name)
    component.ignore("data_type", "device", "track_meta", "wrap_sequence", "names", "sep")
    component.ignore("use_re", "times", "strict_check", "channel_dim")
    component.ignore("meta_key_postfix", "meta_keys")
    return []


def _load(_: _Reader, component: Component) -> list[Step]:
    component.require_float("dtype")
    component.ignore("reader", "image_only", "ensure_channel_first", "simple_keys", "meta_keys")
    component.ignore("meta_key_postfix", "overwriting", "prune_meta_pattern", "prune_meta_sep")
    component.ignore("expanduser")
    return []


def _orientation(_: _Reader, component: Component) -> list[Step]:
    canonical = component.flag("as_closest_canonical", False)
    code = component.take("axcodes", "RAS" if canonical else None)
    component.only("labels", None, [["L", "R"], ["P", "A"], ["I", "S"]])
    letters = code if isinstance(code, str | list) else ""
    if len({_CODES[letter] for letter in letters if letter in _CODES}) != 3 or len(letters) != 3:
        raise component.refused(f'"axcodes" is {code!r} and not such as "RAS"')
    return [{"step": "orient", "to": "RAS" if canonical else "".join(letters)}]


def _spacing(reader: _Reader, component: Component) -> list[Step]:
    sizes = component.take("pixdim")
    sizes = list(sizes) if isinstance(sizes, list) else [sizes]
    sizes = (sizes + sizes[-1:] * 3)[:3]
    if len(sizes) != 3 or any(not _is_number(size) or size <= 0 for size in sizes):
        raise component.refused('"pixdim" is not a voxel size for each axis')
    for name in ("diagonal", "scale_extent"):
        component.only(name, False)
    for name in ("min_pixdim", "max_pixdim"):
        component.only(name, None)
    mode = component.only("mode", "bilinear", "nearest", 0, 1)
    component.only("padding_mode", "border")
    component.require_float("dtype")
    component.ignore("align_corners", "recompute_affine", "ensure_same_shape")
    interpolation = "nearest" if mode in ("nearest", 0) else "linear"
    reader.spacing = sizes
    reader.found.resampled = interpolation
    step = {"step": "spacing", "mm": sizes, "interpolation": interpolation, "align": "monai"}
    return [step]


def _resize(reader: _Reader, component: Component) -> list[Step]:
    size = size_of(component, "spatial_size")
    component.only("size_mode", "all")
    if single(component.take("mode", "area")) != "trilinear":
        raise component.refused('"mode" is not "trilinear"')
    component.only("align_corners", None, False)
    component.only("anti_aliasing", False)
    component.require_float("dtype")
    component.ignore("anti_aliasing_sigma")
    reader.spacing, reader.found.resampled, reader.found.size = None, "linear", size
    return [{"step": "resize", "size": size}]


def _scale_range(_: _Reader, component: Component) -> list[Step]:
    before = [component.number("a_min"), component.number("a_max")]
    after = [component.take("b_min", None), component.take("b_max", None)]
    clip = component.flag("clip", False)
    component.require_float("dtype")
    if after == [None, None] and not clip:
        after = [0.0, 1.0]
    if not all(map(_is_number, after)):
        raise component.refused('"b_min" and "b_max" are not two numbers')
    return [{"step": "scale_range", "from": before, "to": after, "clip": clip}]


def _scale(reader: _Reader, component: Component) -> list[Step]:
    to = [component.number("minv", 0.0), component.number("maxv", 1.0)]
    component.only("factor", None)
    component.require_float("dtype")
    reader.require_one_channel_or(component, component.flag("channel_wise", False))
    return [{"step": "minmax", "to": to}]


def _scale_percentiles(reader: _Reader, component: Component) -> list[Step]:
    low, high = component.number("lower"), component.number("upper")
    to = [component.number("b_min"), component.number("b_max")]
    component.only("relative", False)
    component.require_float("dtype")
    reader.require_one_channel_or(component, component.flag("channel_wise", False))
    if not component.flag("clip", False):
        raise component.refused('"clip" is not true')
    # Of what was limited to two percentiles, they are the smallest and the largest.
    return [
        {"step": "clip_percentiles", "low": low, "high": high},
        {"step": "minmax", "to": to},
    ]


def _clip_percentiles(reader: _Reader, component: Component) -> list[Step]:
    low, high = component.number("lower"), component.number("upper")
    component.only("sharpness_factor", None)
    component.require_float("dtype")
    reader.require_one_channel_or(component, component.flag("channel_wise", False))
    return [{"step": "clip_percentiles", "low": low, "high": high}]


def _normalize(reader: _Reader, component: Component) -> list[Step]:
    subtracted, divisor = (single(component.take(n, None)) for n in ("subtrahend", "divisor"))
    nonzero = component.flag("nonzero", False)
    component.require_float("dtype")
    reader.require_one_channel_or(component, component.flag("channel_wise", False))
    if subtracted is None and divisor is None:
        return [{"step": "zscore", "nonzero": nonzero}]
    if nonzero or not _is_number(subtracted) or not _is_number(divisor) or divisor == 0:
        raise component.refused('"subtrahend" and "divisor" are not two numbers for all voxels')
    return [{"step": "scale", "factor": 1 / divisor, "offset": -subtracted / divisor}]


def _crop_foreground(reader: _Reader, component: Component) -> list[Step]:
    if "source_key" in component and component.take("source_key") != reader.image_key:
        raise component.refused('"source_key" is not the image')
    above = component.threshold("select_fn")
    component.only("channel_indices", None)
    component.only("k_divisible", 1, [1, 1, 1])
    component.ignore("start_coord_key", "end_coord_key", "mode", "return_coords")
    margin = single(component.take("margin", 0))
    allow_smaller = component.flag("allow_smaller", False)
    step: dict[str, Any] = {"step": "crop_foreground", "above": above}
    if margin in (0, [0, 0, 0]):
        return [step]
    if not _is_number(margin) or margin < 0 or not allow_smaller:
        raise component.refused('"margin" may lead out of the scan')
    if reader.spacing is None or len(set(reader.spacing)) > 1:
        raise component.refused('"margin" is given in voxels, which are not cubes')
    return [{**step, "margin_mm": margin * reader.spacing[0]}]


def _spatial_pad(reader: _Reader, component: Component) -> list[Step]:
    component.only("method", "symmetric")
    component.only("mode", "constant")
    component.only("value", 0, 0.0)
    reader.found.padded = size_of(component, "spatial_size")
    return []


_TRANSFORMS: Mapping[str, Callable[[_Reader, Component], Sequence[Step]]] = {
    "LoadImage": _load,
    **dict.fromkeys(("EnsureChannelFirst", "AddChannel", "AsChannelFirst"), _nothing),
    **dict.fromkeys(("EnsureType", "CastToType", "ToTensor", "ToDevice"), _nothing),
    **dict.fromkeys(("Identity", "SelectItems", "DeleteItems"), _nothing),
    "Orientation": _orientation,
    "Spacing": _spacing,
    "Resize": _resize,
    "ScaleIntensityRange": _scale_range,
    "ScaleIntensity": _scale,
    "ScaleIntensityRangePercentiles": _scale_percentiles,
    "ClipIntensityPercentiles": _clip_percentiles,
    "NormalizeIntensity": _normalize,
    "CropForeground": _crop_foreground,
    "SpatialPad": _spatial_pad,
}


def size_of(component: Component, name: str) -> list[int]:
    """Take an argument that says how many voxels along D, H and W."""
    value = component.take(name)
    sizes = value if isinstance(value, list) else [value] * 3
    sizes = sizes * 3 if len(sizes) == 1 else sizes
    if len(sizes) != 3 or any(type(size) is not int or size < 1 for size in sizes):
        raise component.refused(f'"{name}" is {value!r} and not a number of voxels for each axis')
    return sizes


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
