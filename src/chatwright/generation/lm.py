"""Models by name: `chatwright.load` for people, `load_model` and `save_model` for recipes.

lm = chatwright.load("smollm2-135m-instruct")
for answer in lm.generate(["What is gravity?"], max_new_tokens=64, temperature=0.7, seed=1, n=2):
    print(answer.text, answer.finish_reason)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from chatwright import hub
from chatwright.errors import CheckpointError, ConfigError, DataError, ModelError
from chatwright.generation.api import Completion, SamplingParams
from chatwright.generation.embed import Embedder
from chatwright.generation.local import LocalGenerator
from chatwright.hub.store import MANIFEST, say, sha256
from chatwright.model import lora
from chatwright.model.formats.convert import ensure_hf_folder
from chatwright.model.formats.huggingface import as_dtype, load_folder, save_folder
from chatwright.model.precision import pick_device, pick_dtype
from chatwright.model.transformer import Transformer
from chatwright.records import Message, Prompt
from chatwright.text.chat import render
from chatwright.text.chat_template import DEFAULT_DATE, TEMPLATE_FIELD
from chatwright.text.foreign import check_foreign
from chatwright.text.template_choice import with_template
from chatwright.text.tokenizer import Tokenizer

_SAID: set[tuple[Path, str]] = set()
ADAPTER_CONFIG = "adapter_config.json"
PromptLike = str | Sequence[Message] | Sequence[Mapping[str, Any]]
"""A text, or the messages of a conversation."""


class LM:
    """A language model with its tokenizer: scores and answers."""

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, *, max_batch: int = 64, embedder: Embedder | None = None
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.embedder = embedder or Embedder(model, tokenizer)
        self.generator = LocalGenerator(model, tokenizer, max_batch=max_batch)

    @property
    def is_chat(self) -> bool:
        """Whether the model comes with a chat template (true of everything fine-tuned here)."""
        return bool(self.tokenizer.config.get("chat_template")) or TEMPLATE_FIELD in self.tokenizer.config

    @property
    def wants_bos(self) -> bool:
        """Whether the model is used to a bos token before raw text."""
        return self.tokenizer.bos_id is not None and self.tokenizer.bos_id in self.tokenizer.text_prefix_ids

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Scores of the next token after every prefix of `ids`: [T, V] in fp32 on the CPU.

        Raises DataError when `ids` is empty or longer than the model's context.
        """
        context = self.model.config.max_positions
        if not 0 < len(ids) <= context:
            raise DataError(f"logits: {len(ids)} tokens given; the model takes 1 to {context}")
        tokens_BT = torch.tensor([list(ids)], device=self.model.embed.weight.device)
        training = self.model.training
        self.model.eval()
        try:
            return self.model.logits(self.model(tokens_BT)[0]).float().cpu()
        finally:
            self.model.train(training)

    def prompt_ids(
        self, prompt: PromptLike, *, raw: bool = False, system: str = "", tools: Sequence[Any] = ()
    ) -> list[int]:
        """Tokens that `generate` continues for a prompt.

        Messages are rendered with the chat template. A text is a user message for a model with a chat template (after
        `system`, if given) and raw text to go on with for a base model; `raw` forces the latter. `tools`: JSON schemas of
        functions, for a chat template that describes them.
        """
        if isinstance(prompt, str):
            if raw or not self.is_chat:
                return self._raw_ids(prompt)
            if not prompt.strip():
                raise DataError("the prompt is empty: there is nothing to answer. Give it some text.")
            prompt = [Message(role="user", content=prompt)]
        rows = [m.to_dict() if isinstance(m, Message) else m for m in prompt]
        messages = list(Prompt.from_dict({"messages": rows}).messages)
        if system:
            if messages[0].role == "system":
                raise ConfigError("system: the conversation has a system message of its own")
            messages.insert(0, Message(role="system", content=system))
        return list(render(messages, self.tokenizer, add_generation_prompt=True, tools=tools).ids)

    def _raw_ids(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text)
        if not ids:
            raise DataError("the prompt is empty: there is nothing to go on with. Give it some text.")
        return [*self.tokenizer.text_prefix_ids, *ids]

    def generate(
        self,
        prompts: str | Sequence[PromptLike],
        *,
        max_new_tokens: int = 256,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        n: int = 1,
        stop: Sequence[str] = (),
        raw: bool = False,
        system: str = "",
    ) -> list[Completion]:
        """Answer prompts: `n` completions of the first, then `n` of the second, and so on.

        Args:
            prompts: texts or message lists (`[{"role": "user", "content": ...}]`); one text alone is a single prompt. How
                texts are read: see `prompt_ids`.
            raw: texts are gone on with as they are, without a chat template.
            system: system message for chat models.
        For the other arguments see `SamplingParams`.
        """
        params = SamplingParams(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            n=n,
            stop=tuple(stop),
        )
        if isinstance(prompts, str):
            prompts = [prompts]
        if prompts and isinstance(prompts[0], (Message, Mapping)):
            raise ConfigError("generate takes a list of prompts; put one conversation into a list: [messages]")
        ids = [self.prompt_ids(prompt, raw=raw, system=system) for prompt in prompts]
        return [completion for row in self.generator.generate(ids, params) for completion in row]


def load(
    name_or_folder: str | Path, dtype: str | torch.dtype = "float32", device: str = "auto", template: str = ""
) -> LM:
    """Open a model by name (`smollm2-135m-instruct`, `owner/name`), folder (Hugging Face, adapter,
    run, or chain of runs: its last model) or GGUF.

    `dtype` "auto" is bfloat16 where the hardware multiplies it, float32 elsewhere. `template`: see `load_model`.
    Raises HubError, ModelError.
    """
    model, tokenizer = load_model(name_or_folder, dtype=dtype, device=device, template=template)
    folder = hub.model_folder(name_or_folder)
    return LM(model, tokenizer, embedder=Embedder.of(model, tokenizer, folder if folder.is_dir() else None))


def load_model(
    name_or_folder: str | Path,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "auto",
    template: str = "",
) -> tuple[Transformer, Tokenizer]:
    """Model (eval mode, an adapter injected and active) and tokenizer for whatever `load` takes.

    `template`: another chat template or settings of it (`text.template_choice`). Faults and dates of the chat template are
    said on stderr, once per model. Folders with a manifest are checked against it first.
    Raises HubError, ModelError, CheckpointError, ConfigError.
    """
    device = pick_device(device)
    dtype = pick_dtype("auto", device) if dtype == "auto" else as_dtype(dtype)
    given, path = Path(name_or_folder).expanduser(), hub.model_folder(name_or_folder)
    if path.parent not in (given, given.parent):
        say(f"{given}: its last model is {path}")
    if path.is_dir():
        check_manifest(path)
    found = hub.resolve(path if path.is_dir() else name_or_folder)
    if (found / ADAPTER_CONFIG).is_file():
        model, tokenizer = _load_adapted(found, dtype, device)
    else:
        found = ensure_hf_folder(found)
        check_foreign(found)
        tokenizer = Tokenizer.from_folder(found)
        model = load_folder(found, dtype, device)
    tokenizer = with_template(tokenizer, template)
    _check_fit(model, tokenizer, found)
    if (note := _note(tokenizer)) and (found, note) not in _SAID:
        _SAID.add((found, note))
        print(f"{found}: {note}", file=sys.stderr)
    return model, tokenizer


def _note(tokenizer: Tokenizer) -> str:
    if tokenizer.template_problem:
        return f"warning: {tokenizer.template_problem}"
    if tokenizer.native is not None and tokenizer.native.uses_clock:
        day = tokenizer.template.date or DEFAULT_DATE
        return f"the chat template writes a date: always {day}, so that runs can be repeated (--template date=...)"
    return ""


def save_model(model: Transformer, folder: str | Path, tokenizer: Tokenizer, *, base: str = "") -> None:
    """Write what `load_model` reads: a Hugging Face folder, or PEFT's adapter files when LoRA was trained on `base`."""
    if any(True for _ in lora.adapters(model)):
        lora.save_adapter(model, folder, base=base)
        tokenizer.save(folder)
    else:
        save_folder(model, folder, tokenizer)


def check_manifest(folder: Path) -> None:
    """Compare the files of a folder with its MANIFEST.json, or with that of the run folder it is the `final/` of.

    No manifest: nothing to check. Raises CheckpointError naming the first file that is not what was written.
    """
    place = next((p for p in (folder, folder.parent) if (p / MANIFEST).is_file()), None)
    if place is None or (place != folder and folder.name != "final"):
        return
    try:
        files = json.loads((place / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, facts in files.items():
            file = place / name
            if not file.is_relative_to(folder):
                continue
            wanted = facts.get("bytes", facts.get("size"))
            if not file.is_file():
                raise CheckpointError(f"{file}: missing; {place / MANIFEST} lists it. Restore it or train again")
            if file.stat().st_size != wanted or sha256(file) != facts["sha256"]:
                raise CheckpointError(f"{file}: is not what was written (size or sha256 differ). Restore it or train again")
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{place / MANIFEST}: cannot be read ({error}); the folder cannot be trusted") from error


def _load_adapted(folder: Path, dtype: torch.dtype, device: torch.device) -> tuple[Transformer, Tokenizer]:
    file = folder / ADAPTER_CONFIG
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: does not name its base model (base_model_name_or_path): {error}") from error
    if not isinstance(base, str) or not base:
        raise ModelError(f"{file}: base_model_name_or_path is empty; write the base model's name or folder there")
    try:
        model, tokenizer = load_model(base, dtype, device)
    except RecursionError:
        raise ModelError(f"{file}: the adapters name one another as their base ({base}); none is a model") from None
    lora.load_adapter(model, folder)
    if (folder / "tokenizer.json").is_file():
        check_foreign(folder)
        tokenizer = Tokenizer.from_folder(folder)
    return model.eval(), tokenizer


def _check_fit(model: Transformer, tokenizer: Tokenizer, folder: Path) -> None:
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ModelError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} entries, the model's embedding only "
            f"{model.config.vocab_size}; these files do not belong together"
        )
