"""Tokens in a file: they come back as they were written, and take no more room than they had."""

from __future__ import annotations

import pytest
import torch

from edgevit.model.merging import Tokens
from edgevit.model.token_store import EVERY, TokenStream, is_held_out


def test_batches_come_back_in_any_order_to_the_bit() -> None:
    written = [Tokens(torch.randn(n, 5, 3, generator=torch.Generator().manual_seed(n))) for n in (2, 1, 4)]
    with TokenStream() as stream:
        for tokens in written:
            stream.append(tokens)
        assert len(stream) == 3
        for number in (2, 0, 1, 2):
            assert torch.equal(stream.read(number).x, written[number].x)
            assert stream.read(number).sizes is None


def test_a_batch_may_lose_tokens_and_its_neighbours_stay() -> None:
    """As behind the last attention; a view that is not contiguous, too."""
    with TokenStream() as stream:
        first, second = torch.arange(24.0).view(2, 4, 3), torch.ones(1, 4, 3)
        stream.append(Tokens(first))
        stream.append(Tokens(second))
        stream.replace(0, Tokens(first[:, :1], torch.tensor([[2.0], [3.0]])))
        assert torch.equal(stream.read(0).x, first[:, :1])
        assert stream.read(0).sizes.tolist() == [[2], [3]]
        assert torch.equal(stream.read(1).x, second)
        with pytest.raises(ValueError, match="room for 64 values"):  # sizes and places among them
            stream.replace(0, Tokens(torch.zeros(3, 8, 3)))


def test_one_batch_of_four_is_held_out() -> None:
    assert [batch for batch in range(3 * EVERY) if is_held_out(batch)] == [3, 7, 11]
