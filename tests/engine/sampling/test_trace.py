"""Which tokens are the most probable ones."""

from __future__ import annotations

import torch

from gptj_demo.engine.sampling.trace import most_probable


def test_equally_probable_tokens_are_ordered_by_id_in_every_batch() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        # each value occurs twice
        row = torch.randperm(400, generator=generator).div(2, rounding_mode="floor").float()
        expected = sorted(range(400), key=lambda token: (-row[token].item(), token))
        for rows in (1, 3, 16):
            for count in (1, 2, 5, 20):
                ids = most_probable(row.repeat(rows, 1), count)
                assert ids.tolist() == [expected[:count]] * rows


def test_all_tokens_can_be_asked_for() -> None:
    assert most_probable(torch.tensor([[1.0, 3.0, 1.0]]), 3).tolist() == [[1, 0, 2]]
