"""What an engine is held against its graph on, and when it is said to compute something else."""

from __future__ import annotations

import math

import onnx
import pytest
import torch

from medptq.engines.check_images import check_images
from medptq.engines.tensorrt_agreement import WORST_ERROR, worst_error
from tensorrt_networks import SMALL, run


@pytest.mark.parametrize("shape", [(2, 3, 24, 20, 16), (1, 1, 5, 64, 1)])
def test_images_are_noise_and_something_like_a_scan_the_same_each_time(shape):
    for image, again in zip(check_images(shape), check_images(shape), strict=True):
        assert tuple(image.shape) == shape
        assert image.dtype == torch.float32
        assert torch.equal(image, again)
        assert image.isfinite().all()
        assert abs(float(image.mean())) < 0.2
        assert float(image.std()) == pytest.approx(1, abs=0.2)


def test_a_phantom_has_a_background_and_each_image_of_a_batch_is_another():
    _, phantom = check_images((2, 2, 32, 32, 32))
    images = phantom.flatten(0, 1)
    assert len({float(image[16, 16, 16]) for image in images}) == 4
    for image in images:
        is_background = image == image[0, 0, 0]
        assert 0.2 < float(is_background.float().mean()) < 0.8


def outputs(graph: onnx.ModelProto) -> list[torch.Tensor]:
    return [run(graph, image) for image in check_images(SMALL)]


@pytest.mark.parametrize(("kind", "precision"), [("residual", "fp16"), ("quantized", "int8")])
def test_what_the_graph_computes_agrees(kind, precision, request):
    graph = request.getfixturevalue(kind)
    error, largest = worst_error(outputs(graph), graph, check_images(SMALL), precision)
    assert error < 1e-6
    assert largest >= WORST_ERROR


def test_rounding_may_change_a_quantized_network_more(residual, quantized):
    _, plain = worst_error(outputs(residual), residual, check_images(SMALL), "int8")
    _, by_steps = worst_error(outputs(quantized), quantized, check_images(SMALL), "int8")
    assert by_steps > plain


@pytest.mark.parametrize("image", [0, 1])
def test_an_engine_that_is_wrong_on_one_image_only_is_told_by_that_one(image, residual):
    found = outputs(residual)
    found[image] = 1.05 * found[image]
    error, largest = worst_error(found, residual, check_images(SMALL), "fp16")
    assert error == pytest.approx(0.05, rel=0.01)
    assert error > largest


@pytest.mark.parametrize("image", [0, 1])
def test_an_engine_whose_output_is_no_number_is_wrong(image, residual):
    found = outputs(residual)
    found[image] = torch.full_like(found[image], math.nan)
    error, largest = worst_error(found, residual, check_images(SMALL), "fp32")
    assert not error <= largest
