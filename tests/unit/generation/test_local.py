"""LocalGenerator: how answers end, who shares what, how rows come and go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from chatwright.errors import ConfigError, DataError, ModelError
from chatwright.generation.api import Completion, SamplingParams
from chatwright.generation.batch import Batch
from chatwright.generation.local import LocalGenerator
from chatwright.model.transformer import Transformer
from tiny_models import tiny_model

NO_STOP: frozenset[int] = frozenset()
PROMPTS = [[5, 6, 7], [8] * 9, [9, 10], [11] * 4, [12, 13, 14, 15]]


@pytest.fixture
def model(tokenizer: Any) -> Transformer:
    return tiny_model("llama", tokenizer.vocab_size)


@pytest.fixture
def generator(model: Transformer, tokenizer: Any) -> LocalGenerator:
    return LocalGenerator(model, tokenizer, max_batch=4)


def ids_of(rows: Sequence[Sequence[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[answer.ids for answer in row] for row in rows]


def test_length_and_stop_token(generator: LocalGenerator, tokenizer: Any) -> None:
    free = generator.generate(PROMPTS, SamplingParams(max_new_tokens=20, stop_ids=NO_STOP))
    assert all(answer.finish_reason == "length" and len(answer.ids) == 20 for (answer,) in free)
    stops = frozenset(answer.ids[4 + n] for n, (answer,) in enumerate(free))
    stopped = generator.generate(PROMPTS, SamplingParams(max_new_tokens=20, stop_ids=stops))
    for (long,), (short,) in zip(free, stopped, strict=True):
        end = min(n for n, token in enumerate(long.ids) if token in stops) + 1
        assert short.ids == long.ids[:end], "ids are those up to the stop token, which is one of them"
        assert short.logprobs == pytest.approx(long.logprobs[:end], abs=1e-4)
        assert short.finish_reason == "stop" and short.text == tokenizer.decode(short.ids[:-1])
        assert short.prompt_ids == long.prompt_ids


def test_stop_token_in_the_last_place_is_a_stop(generator: LocalGenerator) -> None:
    ((answer,),) = generator.generate([[5]], SamplingParams(max_new_tokens=3, stop_ids=NO_STOP))
    last = SamplingParams(max_new_tokens=3, stop_ids=frozenset({answer.ids[2]} - set(answer.ids[:2])))
    ((again,),) = generator.generate([[5]], last)
    assert again.ids == answer.ids and again.finish_reason == "stop"


def test_the_tokenizers_stop_tokens_are_the_default(generator: LocalGenerator, model: Transformer, tokenizer: Any) -> None:
    with torch.no_grad():  # an output row that always wins
        model.embed.weight[tokenizer.end_of_turn_id] = 0.0
    ((answer,),) = generator.generate([[5]], SamplingParams(max_new_tokens=64 - 1, temperature=50.0))
    wanted = next((n for n, token in enumerate(answer.ids) if token in tokenizer.stop_ids), None)
    assert (wanted == len(answer.ids) - 1) == (answer.finish_reason == "stop")
    many = generator.generate([[5]], SamplingParams(max_new_tokens=60, temperature=50.0), n=60)[0]
    ended = [answer for answer in many if answer.finish_reason == "stop"]
    assert ended and all(answer.ids[-1] in tokenizer.stop_ids for answer in ended)
    assert all(tokenizer.stop_ids.isdisjoint(answer.ids[:-1]) for answer in many)


def test_stop_text_cuts_the_answer(generator: LocalGenerator, tokenizer: Any) -> None:
    ((free,),) = generator.generate([[5, 6]], SamplingParams(max_new_tokens=30, stop_ids=NO_STOP))
    at = next(n for n in range(3, len(free.text) - 2) if "\ufffd" not in free.text[: n + 2])
    stop = free.text[at : at + 2]
    cut = free.text.index(stop)
    ((answer,),) = generator.generate([[5, 6]], SamplingParams(max_new_tokens=30, stop_ids=NO_STOP, stop=("@@@", stop)))
    assert answer.text == free.text[:cut] and answer.finish_reason == "stop"
    assert answer.ids == free.ids[: len(answer.ids)] and stop in tokenizer.decode(answer.ids)
    assert stop not in tokenizer.decode(answer.ids[:-1]), "it stops as soon as the text is there"
    ((other,),) = generator.generate([[5, 6]], SamplingParams(max_new_tokens=30, stop_ids=NO_STOP, stop=("@@@@",)))
    assert other.text == free.text and other.finish_reason == "length"


def test_samples_of_one_prompt_share_its_prefill(generator: LocalGenerator) -> None:
    params = SamplingParams(max_new_tokens=5, stop_ids=NO_STOP)
    (samples,) = generator.generate([list(range(20, 40))], params, n=9)
    # 19 tokens: the last of the prompt goes through the first step. 9 samples in 4 rows: the row of an earlier sample
    # is still there when the next ones enter, except when all leave at once.
    assert len(set(ids_of([samples])[0])) == 9 and generator.prefill_tokens == 19 * 3
    wide = LocalGenerator(generator.model, generator.tokenizer, max_batch=16)
    assert wide.generate([list(range(20, 40))], params, n=9) == [samples] and wide.prefill_tokens == 19


def test_a_common_beginning_is_prefilled_once(generator: LocalGenerator) -> None:
    beginning = list(range(20, 40))
    prompts = [[*beginning, 50, 51 + n] for n in range(3)]
    params = SamplingParams(max_new_tokens=5, stop_ids=NO_STOP)
    together = generator.generate(prompts, params)
    assert generator.prefill_tokens == 21 or generator.prefill_tokens == 20 + 3
    assert [generator.generate([prompt], params)[0] for prompt in prompts] == together


def test_rows_are_filled_again(generator: LocalGenerator) -> None:
    """Steps are about tokens / rows, not answers / rows * longest."""
    limits = [40, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    params = [SamplingParams(max_new_tokens=limit, stop_ids=NO_STOP) for limit in limits]
    rows = generator.generate([[20 + n] for n in range(len(limits))], params)
    assert [len(answer.ids) for (answer,) in rows] == limits
    assert generator.decode_steps == 40


def test_order_progress_and_seeds(generator: LocalGenerator) -> None:
    params = SamplingParams(max_new_tokens=6, stop_ids=NO_STOP, n=3)
    seen: list[tuple[int, int]] = []
    rows = generator.generate(PROMPTS, params, progress=lambda tokens, done: seen.append((tokens, done)))
    assert [row[0].prompt_ids for row in rows] == [tuple(prompt) for prompt in PROMPTS]
    assert seen == sorted(seen) and seen[-1] == (6 * 15, 15)
    assert len({answer.ids for row in rows for answer in row}) == 15
    assert generator.generate(PROMPTS, params) == rows
    other = SamplingParams(max_new_tokens=6, stop_ids=NO_STOP, n=3, seed=1)
    assert ids_of(generator.generate(PROMPTS, other)) != ids_of(rows)
    seeded = generator.generate([PROMPTS[0]] * 3, params, seeds=[7, 8, 7])
    assert seeded[0] == seeded[2] != seeded[1]
    repeated = generator.generate([PROMPTS[0], PROMPTS[0]], params)
    assert repeated[0] == rows[0] and set(ids_of(repeated)[0]).isdisjoint(ids_of(repeated)[1])


def test_stream_gives_what_generate_gives(generator: LocalGenerator, tokenizer: Any) -> None:
    """Complete characters only, though byte-level tokens cut them."""
    for stop in ((), ("q", "zz")):
        params = SamplingParams(max_new_tokens=40, stop=stop, seed=5)
        ((whole,),) = generator.generate([PROMPTS[0]], params)
        pieces = list(generator.stream(PROMPTS[0], params))
        assert tuple(token for token, _, _ in pieces) == whole.ids
        assert [logprob for _, logprob, _ in pieces] == pytest.approx(whole.logprobs, abs=1e-5)
        assert "".join(text for _, _, text in pieces) == whole.text


def test_stream_of_text_whose_characters_span_tokens(generator: LocalGenerator, tokenizer: Any) -> None:
    text = "你好 🦩𝔘 Привет naïve"
    ids = tokenizer.encode(text)
    assert any("\ufffd" in tokenizer.decode([i]) for i in ids), "the test wants characters cut by tokens"
    decoder, given = tokenizer.stream_decoder(), ""
    for token in ids:
        piece = decoder.push(token)
        assert "\ufffd" not in piece
        given += piece
    assert given + decoder.flush() == text


def test_streams_and_batches_live_side_by_side(generator: LocalGenerator) -> None:
    params = SamplingParams(max_new_tokens=10, stop_ids=NO_STOP)
    alone = [token for token, _, _ in generator.stream(PROMPTS[0], params)]
    first, second = generator.stream(PROMPTS[0], params), generator.stream(PROMPTS[1], params)
    mixed = []
    for (token, _, _), _ in zip(first, second, strict=True):
        mixed.append(token)
        generator.generate([PROMPTS[2]], params)
    assert mixed == alone


def test_new_weights_are_seen(generator: LocalGenerator, model: Transformer) -> None:
    params = SamplingParams(max_new_tokens=8, temperature=0, stop_ids=NO_STOP)
    before = generator.generate([PROMPTS[0]], params)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9)) * 0.3)
    after = generator.generate([PROMPTS[0]], params)
    assert ids_of(after) != ids_of(before)
    fresh = LocalGenerator(model, generator.tokenizer).generate([PROMPTS[0]], params)
    assert after == fresh
    for parameter in model.parameters():  # a write that torch does not count
        parameter.data.mul_(-1.0)
    generator.refresh()
    fresh = LocalGenerator(model, generator.tokenizer).generate([PROMPTS[0]], params)
    assert generator.generate([PROMPTS[0]], params) == fresh
    model.to(torch.float64).to(torch.bfloat16)
    assert generator.generate([PROMPTS[0]], params)[0][0].finish_reason == "length"


def test_the_model_is_left_as_it_was(generator: LocalGenerator, model: Transformer) -> None:
    model.set_dropout(0.5)
    model.train()
    params = SamplingParams(max_new_tokens=8, temperature=0, stop_ids=NO_STOP)
    dropped = generator.generate([PROMPTS[0]], params)
    assert model.training and all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not torch.is_inference_mode_enabled()
    model.eval()
    assert generator.generate([PROMPTS[0]], params) == dropped
    loss = model(torch.tensor([[1, 2]])).sum()
    loss.backward()  # parameters are still ordinary ones


def test_context_ends_an_answer(generator: LocalGenerator, model: Transformer) -> None:
    context = model.config.max_positions
    params = SamplingParams(max_new_tokens=500, stop_ids=NO_STOP)
    (row,) = generator.generate([[7] * (context - 5)], params)
    assert len(row[0].ids) == 5 and row[0].finish_reason == "length"


def test_bad_input(generator: LocalGenerator, model: Transformer) -> None:
    context = model.config.max_positions
    with pytest.raises(DataError, match="prompt 2 is empty"):
        generator.generate([[1], []], SamplingParams())
    with pytest.raises(DataError, match=rf"prompt 1 has {context} tokens.*context is {context}"):
        generator.generate([[1] * context], SamplingParams())
    with pytest.raises(DataError, match=r"holds token 99999.*0 to"):
        generator.generate([[99999]], SamplingParams())
    with pytest.raises(ConfigError, match="2 prompts"):
        generator.generate([[1], [2]], [SamplingParams()])
    with pytest.raises(ConfigError, match="n 0"):
        generator.generate([[1]], SamplingParams(), n=0)
    with pytest.raises(ConfigError, match="set n to 1"):
        next(generator.stream([1], SamplingParams(n=2)))
    with pytest.raises(ConfigError, match="max_batch 0"):
        LocalGenerator(model, generator.tokenizer, max_batch=0)
    assert generator.generate([], SamplingParams()) == []
    for wrong in ({"max_new_tokens": 0}, {"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}, {"stop": ("",)}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SamplingParams(**wrong)  # type: ignore[arg-type]


def test_a_broken_model_is_an_error(generator: LocalGenerator, model: Transformer) -> None:
    with torch.no_grad():
        model.final_norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        generator.generate([[1]], SamplingParams())


def test_batch_drops_an_answer(generator: LocalGenerator) -> None:
    """What a server does when a client goes away: the others do not notice."""
    params = SamplingParams(max_new_tokens=12, stop_ids=NO_STOP)
    wanted = ids_of(generator.generate(PROMPTS[:3], params))
    batch = Batch(generator._ready_decoder(), 4)
    answers = list(generator._answers(PROMPTS[:3], [params] * 3, None))
    batch.admit(answers)
    for _ in range(4):
        batch.step()
    batch.drop(answers[1])
    while batch.answers:
        batch.step()
    place = answers[1].place[0]
    kept = {answer.place[0]: tuple(answer.ids) for answer in answers if answer is not answers[1]}
    assert kept == {n: ids for n, (ids,) in enumerate(wanted) if n != place}
