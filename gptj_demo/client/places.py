"""The positions in the prompt's text of the tokens that the model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from gptj_demo.protocol import Submit
from gptj_demo.tokenization import Token, Vocabulary


@dataclass(frozen=True, slots=True)
class PlacedPrompt:
    """A prompt's text in UTF-8, and the positions in it of the tokens sent to the engine.

    These are the tokens of `Submit`: without those that `truncate` dropped, and with the last one,
    which token healing removes later.
    """

    data: bytes
    tokens: tuple[Token, ...]

    @property
    def start(self) -> int:
        """The byte where the first token begins."""
        return self.tokens[0].start

    @property
    def start_of_last(self) -> int:
        """The byte where the last token begins, which is the one that token healing removes."""
        return self.tokens[-1].start

    def parts(self, token_ids: Sequence[int]) -> list[bytes]:
        """The bytes of the text of each token; `token_ids` are those of the score.

        The score has no healed token. If that was the only one, the score has a beginning-of-text
        token instead, which has no bytes in the text.
        """
        if len(token_ids) == 1 and token_ids[0] != self.tokens[0].token_id:
            return [b""]
        read = self.tokens[: len(token_ids)]
        return [self.data[token.start : token.end] for token in read]


def place_prompt(
    vocabulary: Vocabulary, prompt: str | Sequence[int], submit: Submit
) -> PlacedPrompt:
    """The positions in `prompt` of the tokens of `submit`.

    The text of token ids is their bytes. A text is tokenized again only if its tokens' bytes differ
    from it, as with tokens that absorb the spaces around them.
    """
    ids, dropped = submit.prompt_token_ids, submit.dropped_tokens
    if isinstance(prompt, str):
        data = prompt.encode()
    else:
        data = b"".join(map(vocabulary.bytes_of, prompt))
    read = b"".join(map(vocabulary.bytes_of, ids))
    if data.endswith(read) and (dropped > 0 or len(read) == len(data)):
        return PlacedPrompt(data, _one_after_another(vocabulary, ids, len(data)))
    if isinstance(prompt, str):
        whole = vocabulary.encode_prompt(prompt)
        if tuple(whole[dropped:]) == ids:
            return PlacedPrompt(data, tuple(vocabulary.tokens(whole, prompt)[dropped:]))
    # an empty prompt: the engine got the beginning-of-text token
    return PlacedPrompt(data, tuple(Token(i, vocabulary.text_of(i), 0, 0) for i in ids))


def _one_after_another(
    vocabulary: Vocabulary, token_ids: Sequence[int], end: int
) -> tuple[Token, ...]:
    """Positions of tokens whose bytes are adjacent and end at byte `end` of the text."""
    sizes = [len(vocabulary.bytes_of(token_id)) for token_id in token_ids]
    ends = list(accumulate(sizes, initial=end - sum(sizes)))
    return tuple(
        Token(token_id, vocabulary.text_of(token_id), start, stop)
        for token_id, start, stop in zip(token_ids, ends, ends[1:], strict=False)
    )
