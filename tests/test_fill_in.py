"""The drafts that are filled in before a text, and their order."""

from __future__ import annotations

from gptj_demo.client.scoring import ContinuationScore
from gptj_demo.protocol import TokenLogprobs
from gptj_demo.ui.fill_in import Draft, rank


def draft(text: str, logprob: float | None) -> Draft:
    if logprob is None:
        return Draft(text)
    logprobs = (TokenLogprobs(logprob, None, 1, ()),)
    return Draft(text, score=ContinuationScore((1,), logprobs, 1, 1, 0))


def texts(drafts: list[Draft]) -> list[str]:
    return [one.text for one in drafts]


def test_drafts_are_ranked_by_score_and_a_draft_without_a_score_is_last() -> None:
    drafts = [draft("a", None), draft("b", -3.0), draft("c", -1.0), draft("d", -2.0)]
    assert texts(rank(drafts)) == ["c", "d", "b", "a"]


def test_repeated_drafts_are_ranked_after_all_other_drafts() -> None:
    drafts = [draft("same", -1.0), draft("worse", -2.0), draft("same", -1.0), draft("worst", -3.0)]
    assert texts(rank(drafts)) == ["same", "worse", "worst", "same"]
