"""What a recipe may say, and what is read back of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medptq.errors import QuantizationError
from medptq.quantization.recipe import OBSERVER_CHOICES, RUNNABLE_GRANULARITIES, Recipe
from medptq.quantization.scheme import scheme_of
from medptq.quantization.sensitivity import layers_scheme

SYMMETRIC = ("percentile", "entropy")
BITS = st.integers(2, 8)
RECIPES = st.builds(
    Recipe,
    observer=st.sampled_from(OBSERVER_CHOICES),
    patches=st.integers(1, 99),
    weight_bits=BITS,
    activation_bits=BITS,
    activation_granularity=st.sampled_from(RUNNABLE_GRANULARITIES),
    recovery=st.booleans(),
    spared=st.lists(st.text(min_size=1), max_size=3).map(tuple),
)


@given(RECIPES)
def test_a_recipe_is_read_back_from_json_as_it_was(recipe):
    read = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert read == recipe
    assert hash(read) == hash(recipe)


def test_a_recipe_of_before_there_were_other_bits_is_read():
    old = {"observer": "mse", "percentile": 99.99, "patches": 16, "seed": 0}
    assert Recipe.from_json(old) == Recipe("mse")


@pytest.mark.parametrize("observer", OBSERVER_CHOICES)
def test_a_plain_recipe_shows_what_it_always_showed(observer):
    shown = {"observer": observer, "patches": 16, "seed": 0}
    if observer in ("agreement", "percentile"):
        shown["percentile"] = 99.99
    assert Recipe(observer).in_use() == shown


@given(RECIPES)
def test_what_differs_from_a_plain_recipe_is_shown(recipe):
    plain, shown = Recipe().to_json(), recipe.in_use()
    for name, value in recipe.to_json().items():
        assert shown.get(name, plain[name]) == value


@given(RECIPES)
def test_int8_kernels_run_every_recipe(recipe):
    scheme = scheme_of(recipe)
    assert scheme.runs_on_openvino
    assert scheme.signed == (recipe.activation_bits == 8 or scheme.observer in SYMMETRIC)


@given(RECIPES)
def test_every_recipes_layers_can_be_looked_at_alone(recipe):
    scheme = layers_scheme(recipe)
    assert scheme.placing == "layers"
    assert scheme.activation_granularity == recipe.activation_granularity


@pytest.mark.parametrize(
    "wrong",
    [
        {"observer": "best"},
        {"percentile": 40.0},
        {"patches": 0},
        {"seed": -1},
        {"weight_bits": 1},
        {"weight_bits": 9},
        {"activation_bits": 1},
        {"activation_bits": 16},
        {"activation_granularity": "token"},
    ],
)
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(QuantizationError) as caught:
        Recipe(**wrong)
    assert caught.value.code == "quantize.recipe"
