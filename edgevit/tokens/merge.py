"""A model that merges tokens, from one that does not: the same weights."""

from __future__ import annotations

from edgevit.model.vit import Vit
from edgevit.tokens.settings import Merges, merged_config


def merging(model: Vit, merges: Merges) -> Vit:
    """``model`` with those merges and copies of its weights, in the same mode.

    An empty mapping undoes all merging. Raises ConfigError for a block that is not there, or cannot merge as many.
    """
    result = Vit(merged_config(model.config, merges))
    result.load_state_dict(model.state_dict())
    return result.train(model.training)
