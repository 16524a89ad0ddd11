"""The progress that is kept of a request, and how another engine resumes it; no engine runs."""

from __future__ import annotations

from typing import Any

from gptj_demo.client.progress import Progress
from gptj_demo.protocol import (
    Finished,
    PromptScored,
    Resumption,
    Started,
    Submit,
    TokenEvent,
    TokenLogprobs,
    Written,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import message


def submit(**params: Any) -> Submit:
    return Submit(1, (7, 8), SamplingParams(**params), seed=3)


def token(token_id: int, index: int = 0, logprobs: TokenLogprobs | None = None) -> TokenEvent:
    return TokenEvent(1, token_id, "", index, logprobs)


def probable(logprob: float, sampled: float | None) -> TokenLogprobs:
    return TokenLogprobs(logprob, sampled, 1, ())


def resumed(progress: Progress, now: float) -> Submit:
    """The message to the next engine after one has ended."""
    progress.suspend()
    return progress.next_part(99, now)


def test_a_request_that_has_not_started_is_submitted_as_it_was() -> None:
    what = submit(n=2)
    progress = Progress(what)
    assert progress.next_part(2, 9.0) is what
    assert resumed(progress, 9.0) is what


def test_completions_are_sent_in_parts_and_those_without_an_engine_can_be_dropped() -> None:
    progress = Progress(submit(n=4))
    first = progress.next_part(2, 1.0).resumption
    assert first == Resumption({0: Written(), 1: Written()}, 0.0, is_scored=False)
    progress.add(Started(1, 2), 2.0)
    progress.add(token(4), 3.0)
    second = progress.next_part(1, 5.0).resumption
    assert second == Resumption({2: Written()}, 3.0, is_scored=False)
    both = resumed(progress, 6.0).resumption
    assert both is not None
    assert both.written == {0: Written((4,)), 1: Written(), 2: Written(), 3: Written()}
    assert progress.drop_unsent() == []
    progress.suspend()
    assert progress.drop_unsent() == [0, 1, 2, 3]


def test_the_tokens_and_the_time_so_far_go_to_the_next_engine() -> None:
    progress = Progress(submit(n=2))
    progress.add(Started(1, 2), 10.0)
    for event in (token(4), token(5, index=1), token(6)):
        assert progress.add(event, 11.0) is event
    resumption = resumed(progress, 14.5).resumption
    assert resumption == Resumption({0: Written((4, 6)), 1: Written((5,))}, 4.5, is_scored=False)
    assert (progress.generated(0), progress.generated(1)) == (2, 1)


def test_a_completion_that_has_ended_is_not_resumed() -> None:
    progress = Progress(submit(n=2))
    progress.add(Started(1, 2), 0.0)
    progress.add(Finished(1, "stop", message("end.model"), "", 2, 0, 3, 0), 0.0)
    resumption = resumed(progress, 0.0).resumption
    assert resumption is not None
    assert list(resumption.written) == [1]


def test_the_second_engines_start_is_not_forwarded_and_its_time_counts_from_the_first() -> None:
    progress = Progress(submit())
    assert progress.add(Started(1, 2), 1.0) is not None
    assert progress.add(Started(1, 2), 5.0) is None
    resumption = resumed(progress, 6.0).resumption
    assert resumption is not None
    assert resumption.elapsed == 5.0


def test_probabilities_are_summed_but_sent_only_on_request() -> None:
    progress = Progress(submit())
    progress.add(Started(1, 2), 0.0)
    forwarded = progress.add(token(4, logprobs=probable(-1.5, -0.5)), 0.0)
    assert forwarded == token(4)
    progress.add(token(5, logprobs=probable(-2.0, -0.25)), 0.0)
    resumption = resumed(progress, 0.0).resumption
    assert resumption is not None
    assert resumption.written[0] == Written((4, 5), (-0.5, -0.25), -3.5)


def test_probabilities_are_sent_to_those_who_asked() -> None:
    event = token(4, logprobs=probable(-1.5, None))
    assert Progress(submit(logprobs=0)).add(event, 0.0) is event


def test_a_prompt_is_scored_once() -> None:
    progress = Progress(submit(echo=True, logprobs=0))
    progress.add(Started(1, 2), 0.0)
    progress.add(PromptScored(1, (7, 8), (None, probable(-1, None)), -1.0, None, None), 0.0)
    resumption = resumed(progress, 0.0).resumption
    assert resumption is not None
    assert resumption.is_scored


def test_a_new_token_resets_the_count_of_deaths() -> None:
    progress = Progress(submit())
    progress.deaths = 2
    progress.add(Started(1, 2), 0.0)
    assert progress.deaths == 2
    progress.add(token(4), 0.0)
    assert progress.deaths == 0
