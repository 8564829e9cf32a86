"""What cannot be shown is said in a line."""

from __future__ import annotations

import pytest
from edgevit.attention.probe import Probe

from edgevit.errors import EngineError
from edgevit.export.graph import write_graph
from edgevit.model.quantplan import QuantPlan
from tests.zoo import ZOO, folded


def test_a_model_that_merges_tokens_is_refused() -> None:
    model = folded(**ZOO["merging"])
    with pytest.raises(EngineError, match="it merges tokens, and a merged token is no one patch"):
        Probe(write_graph(QuantPlan(model=model)), model.config.to_dict(), threads=1)
