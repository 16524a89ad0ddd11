"""DRY: a growing penalty for tokens that would lengthen a repetition."""

from __future__ import annotations

from functools import partial

from gptj_demo.engine.sampling.control import UsingRows
from gptj_demo.engine.sampling.histories import DontRepeatYourself
from gptj_demo.engine.sampling.sequences import SequenceControl


class Dry(SequenceControl):
    """p-e-w, text-generation-webui 5677: see the definition of `dry_multiplier`."""

    name = "dry_multiplier"

    def __init__(self, users: UsingRows) -> None:
        histories = []
        for number, row in zip(users.numbers, users.rows, strict=True):
            params = row.params
            make = partial(
                DontRepeatYourself,
                params.dry_multiplier,
                params.dry_base,
                params.dry_allowed_length,
                row.request.dry_sequence_breakers,
            )
            histories.append((number, row.history(self.name, make)))
        super().__init__(users, histories)
