"""`chatwright generate PROMPT`, `chatwright explain TEXT` and `chatwright chat`: a model in the terminal."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from chatwright import hub
from chatwright.errors import ConfigError

if TYPE_CHECKING:
    from chatwright.generation.api import SamplingParams
    from chatwright.generation.lm import LM

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]
_DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Answer one prompt."""

    prompt: Positional[str]
    """What to ask; `-` reads it from standard input."""
    model: str = hub.DEFAULT
    """Named model, Hugging Face name, folder (also of a run or an adapter), or .gguf file."""
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas."""
    system: str = ""
    """System message; empty: the model's default, if it has one."""
    raw: bool = False
    """Go on with the prompt as it is, without a chat template (base models always do)."""
    max_new_tokens: int = 256
    """Longest answer in tokens."""
    temperature: float = 0.7
    """0: always the likeliest token."""
    top_k: int = 0
    """Draw from the k likeliest tokens; 0: from all."""
    top_p: float = 0.95
    """Draw from the likeliest tokens up to this probability; 1: from all."""
    seed: int = 0
    """The answer follows from this, the prompt and the model."""
    n: int = 1
    """Number of answers."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    calculator: bool = True
    """Work out arithmetic in the question exactly, and hold the answer to it (with --script the model is only told).
    Not with --raw or a base model."""
    script: str = ""
    """Keep answers to Unicode scripts: Han, Latin, Cyrillic, emoji ..., several joined by `|`; empty: any text."""
    json: bool = False
    """Print one JSON object per answer: text, finish_reason, ids, logprobs, prompt_ids."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; auto: bf16 where the hardware multiplies it."""


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """See what a model expected at every token of a text."""

    text: Positional[str]
    """What to look at; `-` reads it from standard input."""
    prompt: str = ""
    """Look at the text as the answer to this; empty: as a text of its own."""
    system: str = ""
    """System message before the prompt."""
    raw: bool = False
    """Read the prompt as text to go on with, without a chat template."""
    model: str = hub.DEFAULT
    """Named model, Hugging Face name, folder (also of a run or an adapter), or .gguf file."""
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas."""
    top_k: int = 5
    """Likeliest tokens shown per place, 0 to 20."""
    format: Literal["text", "json", "html"] = "text"
    """A table; one JSON object with figures in nats and bits; a page with a heat map."""
    language: Literal["en", "zh"] = "en"
    """Of the page's labels."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; auto: bf16 where the hardware multiplies it."""


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """Talk to a model; /help inside lists what it understands."""

    model: str = hub.DEFAULT
    """Named model, Hugging Face name, folder (also of a run or an adapter), or .gguf file."""
    template: str = ""
    """Chat template instead of the model's own: a Jinja file, a layout (chatml, llama3, gemma, mistral, plain), or settings
    of it: thinking=on, thinking=off, date=YYYY-MM-DD. Several are joined by commas."""
    system: str = ""
    """System message; empty: the model's default, if it has one. `/system TEXT` changes it."""
    max_new_tokens: int = 512
    """Longest answer in tokens."""
    temperature: float = 0.7
    """0: always the likeliest token."""
    top_k: int = 0
    """Draw from the k likeliest tokens; 0: from all."""
    top_p: float = 0.95
    """Draw from the likeliest tokens up to this probability; 1: from all."""
    seed: int | None = None
    """For answers that can be repeated; None: other ones each time."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; auto: bf16 where the hardware multiplies it."""
    calculator: bool = True
    """Work out arithmetic in a question exactly, and hold the answer to it."""


@dataclass(frozen=True, kw_only=True)
class ClozeConfig:
    """Fill the blanks of a text."""

    text: Positional[str]
    """`_` is one character, `*` any number of them (after a backslash: the signs themselves); `-` reads from stdin."""
    model: str = ""
    """Model that was trained with `chatwright pretrain` (causal, masked or mixed), or any other model."""
    objective: Literal["auto", "causal", "masked"] = "auto"
    """Fill from the left and score the whole text, or restore from both sides; auto: as the model was trained."""
    top: int = 10
    """Fillings shown."""
    candidates: int = 100
    """Fillings looked at; probabilities are relative to these."""
    longest: int = 8
    """Most characters of `*`."""
    json: bool = False
    """Print one JSON list: [{"text", "probability"}, ...], best first."""
    device: DeviceName = "auto"
    """Where to compute."""
    precision: Precision = "auto"
    """Compute format; auto: bf16 where the hardware multiplies it."""


def open_model(model: str, device: DeviceName, precision: Precision, template: str = "") -> LM:
    """The model that `--model`, `--device`, `--precision` and `--template` name."""
    from chatwright.generation.lm import load

    return load(model, dtype=_DTYPES[precision], device=device, template=template)


def generate(cfg: GenerateConfig) -> None:
    """Print the answer as it comes (several, or JSON: once they are complete). Notes go to stderr."""
    from chatwright.generation.api import Constraint, SamplingParams
    from chatwright.text.scripts import script_regex

    if cfg.script:
        script_regex(cfg.script)  # says what is wrong with it before the model is loaded
    params = SamplingParams(
        max_new_tokens=cfg.max_new_tokens,
        temperature=cfg.temperature,
        top_k=cfg.top_k,
        top_p=cfg.top_p,
        stop=cfg.stop,
        seed=cfg.seed,
        n=cfg.n,
        constraint=Constraint(kind="script", value=cfg.script) if cfg.script else None,
    )
    if cfg.raw and cfg.system:
        raise ConfigError("system: has no effect with --raw; put it into the prompt")
    prompt = sys.stdin.read() if cfg.prompt == "-" else cfg.prompt
    lm = open_model(cfg.model, cfg.device, cfg.precision, cfg.template)
    ids, params = _asked(lm, prompt, cfg, params)
    if cfg.n > 1 or cfg.json:
        _print_complete(lm, ids, params, as_json=cfg.json)
        return
    num_tokens, ended = 0, False
    stop_ids = lm.tokenizer.stop_ids
    for token, _, text in lm.generator.stream(ids, params):
        print(printable(text), end="", flush=True)
        num_tokens, ended = num_tokens + 1, token in stop_ids
    print()
    if not ended and num_tokens == params.max_new_tokens:
        print(f"(cut after {num_tokens} tokens; --max-new-tokens sets how many)", file=sys.stderr)


def _asked(lm: LM, prompt: str, cfg: GenerateConfig, params: SamplingParams) -> tuple[list[int], SamplingParams]:
    """Prompt tokens and parameters, with what the calculator finds in the question."""
    from chatwright.generation.calculator_steps import calculator_steps, held_to, with_steps
    from chatwright.records import Message

    question = (Message(role="user", content=prompt),)
    usable = cfg.calculator and lm.is_chat and not cfg.raw
    steps = calculator_steps(question) if usable else ()
    for step in steps:
        print(f"(calculator: {printable(step.sentence)})", file=sys.stderr)
    asked = with_steps(question, steps) if steps else prompt
    return lm.prompt_ids(asked, raw=cfg.raw, system=cfg.system), held_to(params, steps)


def _print_complete(lm: LM, ids: list[int], params: object, *, as_json: bool) -> None:
    from chatwright.generation.api import SamplingParams

    assert isinstance(params, SamplingParams)
    (answers,) = lm.generator.generate([ids], params)
    for number, answer in enumerate(answers, 1):
        if as_json:
            print(json.dumps(vars(answer), ensure_ascii=False))
        else:
            cut = "" if answer.finish_reason == "stop" else f", cut after {len(answer.ids)} tokens"
            print(f"--- {number} of {len(answers)}{cut}\n{printable(answer.text)}")


def explain(cfg: ExplainConfig) -> None:
    """Print the table, JSON or page."""
    if cfg.language != "en" and cfg.format != "html":
        raise ConfigError("language: only --format html has labels; leave it out")
    text = sys.stdin.read() if cfg.text == "-" else cfg.text
    lm = open_model(cfg.model, cfg.device, cfg.precision, cfg.template)
    from chatwright.generation import explain as explaining
    from chatwright.generation import explain_page

    found = explaining.explain(lm, text, prompt=cfg.prompt, system=cfg.system, raw=cfg.raw, top_k=cfg.top_k)
    if cfg.format == "json":
        print(found.to_json())
    elif cfg.format == "html":
        print(explain_page.as_html(found, cfg.language), end="")
    else:
        print(explain_page.as_text(found))


def chat(cfg: ChatConfig) -> None:
    """Read messages and print answers until Ctrl-D or /exit."""
    import secrets

    from chatwright.generation.api import SamplingParams
    from chatwright.generation.terminal import Session, converse

    params = SamplingParams(
        max_new_tokens=cfg.max_new_tokens,
        temperature=cfg.temperature,
        top_k=cfg.top_k,
        top_p=cfg.top_p,
        seed=secrets.randbits(31) if cfg.seed is None else cfg.seed,
    )
    lm = open_model(cfg.model, cfg.device, cfg.precision, cfg.template)
    if lm.tokenizer.template.name == "plain":
        params = replace(params, stop=("\n\nUser:",))  # a base model goes on with the next turn by itself
    if sys.stdin.isatty():
        print(f"{cfg.model}: /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.", file=sys.stderr)
    converse(Session(lm, params, system=cfg.system, calculator=cfg.calculator))


def cloze(cfg: ClozeConfig) -> None:
    """Print the fillings, a line each with its probability, or JSON."""
    if not cfg.model:
        raise ConfigError(
            "cloze: --model is missing: name a model to fill blanks with. To make one of your own text: "
            "chatwright tokenizer train, corpus build and pretrain, as recipes/from-scratch.toml does"
        )
    from chatwright.generation import cloze as filling

    text = sys.stdin.read().strip() if cfg.text == "-" else cfg.text
    gapped = filling.parse(text)  # says what is wrong with it before the model is loaded
    params = filling.ClozeParams(top=cfg.top, candidates=cfg.candidates, longest=cfg.longest)
    about = filling.about_of(cfg.model)
    lm = open_model(cfg.model, cfg.device, cfg.precision)
    filler = filling.Cloze(lm, start_id=about.get("start_id"), mask_id=about.get("mask_id"))
    kind = filling.kind_for(about, gapped) if cfg.objective == "auto" else cfg.objective
    found = filler.fill(text, params, kind=kind)
    if cfg.json:
        print(json.dumps([{"text": f.text, "probability": f.probability} for f in found], ensure_ascii=False))
        return
    for one in found:
        print(f"{one.probability:8.4f}  {printable(one.text)}  {printable(one.whole)}")


def printable(text: str) -> str:
    """Without control characters: what a model writes must not steer the terminal."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))
