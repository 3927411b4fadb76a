"""What the generator computes is what the model computes: cache and packing against `Transformer.forward`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from chatwright.generation.api import SamplingParams
from chatwright.generation.decoder import DecodeCache, Decoder
from chatwright.generation.local import LocalGenerator
from chatwright.kernels.decode import PlainLinear
from chatwright.model.lora import LoraConfig, adapter_off, adapters, inject
from chatwright.model.transformer import Transformer
from tiny_models import KINDS, tiny_model

ALL = [*KINDS, "mistral-window"]
NO_STOP: frozenset[int] = frozenset()


def model_of(kind: str, vocab_size: int, **changes: Any) -> Transformer:
    if kind == "mistral-window":
        return tiny_model("mistral", vocab_size, sliding_window=5, **changes)
    return tiny_model(kind, vocab_size, **changes)


@torch.no_grad()
def full_logprobs(model: Transformer, ids: tuple[int, ...], num_new: int, temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities of the last `num_new` of `ids` by one forward pass over all of them."""
    tokens = torch.tensor([ids])
    scores = model.logits(model(tokens))[0].float() / temperature
    return torch.log_softmax(scores, -1)[:-1].gather(1, tokens[0, 1:, None])[-num_new:, 0]


@pytest.mark.parametrize("kind", ALL)
def test_logprobs_of_answers_equal_the_full_forward(kind: str, tokenizer: Any) -> None:
    """Ragged prompts, more of them than rows, K answers each, a shared beginning: all must be in its place."""
    model = model_of(kind, tokenizer.vocab_size)
    beginning = list(range(10, 20))
    prompts = [beginning + list(range(30, 30 + extra)) for extra in (1, 4, 2, 9, 3)] + [[40], beginning]
    params = SamplingParams(max_new_tokens=12, stop_ids=NO_STOP, n=2, temperature=0.8)
    for row in LocalGenerator(model, tokenizer, max_batch=4).generate(prompts, params):
        for answer in row:
            wanted = full_logprobs(model, answer.prompt_ids + answer.ids, len(answer.ids), 0.8)
            torch.testing.assert_close(torch.tensor(answer.logprobs), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ALL)
def test_greedy_equals_argmax_of_the_full_forward(kind: str, tokenizer: Any) -> None:
    model = model_of(kind, tokenizer.vocab_size)
    prompt, ids = (11, 12, 13), (11, 12, 13)
    for _ in range(10):
        with torch.no_grad():
            ids = (*ids, int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
    params = SamplingParams(max_new_tokens=10, temperature=0, stop_ids=NO_STOP)
    ((answer,),) = LocalGenerator(model, tokenizer).generate([prompt], params)
    assert prompt + answer.ids == ids


@pytest.mark.parametrize("kind", ALL)
def test_bf16_is_as_close_to_fp32_as_the_plain_model_is(kind: str, tokenizer: Any) -> None:
    exact = model_of(kind, tokenizer.vocab_size).to(torch.bfloat16)
    ids = torch.randint(0, tokenizer.vocab_size, (1, 24), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain = torch.log_softmax(exact.logits(exact(ids))[0, 11:-1].float(), -1)
        decoder = Decoder(exact)
        decoder.pack()
        cache = DecodeCache(exact.config, 2, torch.bfloat16, torch.device("cpu"))
        cache.grow(32)
        decoder.prefill(ids[:, :11], cache, first_row=0, start=0)
        steps = [decoder.step(ids[:, n], torch.tensor([n]), cache)[0] for n in range(11, 23)]
        ours = torch.log_softmax(torch.stack(steps).float(), -1)
        exact.float()
        wanted = torch.log_softmax(exact.logits(exact(ids))[0, 11:-1], -1)
    assert (ours - wanted).square().mean() < 2 * (plain - wanted).square().mean() + 1e-6


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_plain_layers_give_the_same(kind: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of machines without oneDNN and of GPUs."""
    model = model_of(kind, tokenizer.vocab_size)
    params = SamplingParams(max_new_tokens=8, stop_ids=NO_STOP)
    packed = LocalGenerator(model, tokenizer).generate([[5, 6, 7]], params)
    monkeypatch.setattr("chatwright.generation.decoder.can_pack", lambda dtype, device: False)
    generator = LocalGenerator(model, tokenizer)
    plain = generator.generate([[5, 6, 7]], params)
    assert generator._decoder is not None and isinstance(generator._decoder.head, PlainLinear)
    assert packed[0][0].ids == plain[0][0].ids
    assert packed[0][0].logprobs == pytest.approx(plain[0][0].logprobs, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_adapters_take_part(kind: str, dtype: torch.dtype, tokenizer: Any) -> None:
    model = model_of(kind, tokenizer.vocab_size).to(dtype)
    generator = LocalGenerator(model, tokenizer)
    greedy = SamplingParams(max_new_tokens=12, temperature=0, stop_ids=NO_STOP)
    before = generator.generate([[5, 6, 7]], greedy)[0][0]
    inject(model, LoraConfig(rank=4, alpha=8))
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, layer in adapters(model):
            for weight in layer.lora_b_OR.values():
                weight.copy_(torch.randn(weight.shape, generator=noise) * 0.3)
    after = generator.generate([[5, 6, 7]], greedy)[0][0]
    wanted = full_logprobs(model, after.prompt_ids + after.ids, len(after.ids))
    assert after.ids != before.ids
    close = 1e-4 if dtype == torch.float32 else 0.15
    torch.testing.assert_close(torch.tensor(after.logprobs), wanted, rtol=close, atol=close)
    with adapter_off(model):
        assert generator.generate([[5, 6, 7]], greedy)[0][0].ids == before.ids
    assert generator.generate([[5, 6, 7]], greedy)[0][0].ids == after.ids


def test_small_adapters_act_as_in_training_in_bf16(tokenizer: Any) -> None:
    """W + BA in bf16 is mostly W when BA is small: rollouts would be drawn from the base while the adapter trains."""
    model = model_of("llama", tokenizer.vocab_size).to(torch.bfloat16)
    inject(model, LoraConfig(rank=4, alpha=4, targets=("down_proj",)))
    noise = torch.Generator().manual_seed(0)
    decoder = Decoder(model)
    (_, layer), *_ = adapters(model)
    with torch.no_grad():
        for weight in layer.lora_b_OR.values():
            weight.copy_(torch.randn(weight.shape, generator=noise) * 1e-3)
        decoder.pack()
        x = torch.randn(50, model.config.intermediate_size, generator=noise).to(torch.bfloat16)
        trained, base = layer(x), layer.base(x)
        merged = torch.nn.functional.linear(x, layer.merged_weight())
    ours = decoder.layers[0].down.apply(x)
    assert (trained != base).float().mean() > 0.1
    assert (ours != trained).float().mean() < 0.02 < (merged != trained).float().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_answers_do_not_depend_on_neighbours_or_batch_size(dtype: torch.dtype, tokenizer: Any) -> None:
    model = model_of("llama", tokenizer.vocab_size).to(dtype)
    prompts = [[3 + n] * (1 + 5 * n) for n in range(6)]
    for temperature in (0.0, 1.0):
        params = SamplingParams(max_new_tokens=15, temperature=temperature, stop_ids=NO_STOP, seed=4)
        whole = [row[0].ids for row in LocalGenerator(model, tokenizer, max_batch=6).generate(prompts, params)]
        assert len(set(whole)) == len(prompts)
        for max_batch in (1, 2, 5):
            some = LocalGenerator(model, tokenizer, max_batch=max_batch).generate(prompts, params)
            assert [row[0].ids for row in some] == whole
        alone = [LocalGenerator(model, tokenizer).generate([prompt], params)[0][0].ids for prompt in prompts]
        assert alone == whole
        turned = LocalGenerator(model, tokenizer).generate(prompts[::-1], params)[::-1]
        assert [row[0].ids for row in turned] == whole
