"""From folded blocks back to a model that can be trained."""

from __future__ import annotations

import pytest
import torch

from edgevit.model.rewrites.folding import fold
from edgevit.model.rewrites.unfolding import unfold
from tests.zoo import ZOO, contract, frames, normalised, vit


@pytest.mark.parametrize("name", ZOO)
def test_unfolding_gives_a_model_that_folds_to_the_same(name: str) -> None:
    """Through the trainable model, on normalised images: LayerScale and the values' bias went elsewhere, exactly."""
    model = vit(**ZOO[name])
    settings = contract(model.config)
    image = frames(model.config, 2)
    again = unfold(model, fold(model, settings).blocks)
    with torch.inference_mode():
        torch.testing.assert_close(again(normalised(image, settings)), model(normalised(image, settings)), rtol=1e-4, atol=1e-4)
    assert not again.config.layer_scale
    assert [block.heads for block in again.config.blocks] == [block.heads for block in model.config.blocks]
    assert {parameter.data_ptr() for parameter in again.parameters()}.isdisjoint(
        parameter.data_ptr() for parameter in model.parameters()
    )
