"""Text to token ids and back, over the `tokenizers` library.

Message text never yields control tokens: special tokens are not recognised in what `encode` is given; control
tokens are inserted as ids by `chatwright.text.chat`. No bos or eos is added here either.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import tokenizers

from chatwright.errors import ModelError, TemplateError
from chatwright.text.chat_template import TEMPLATE_FIELD, ChatTemplate, jinja
from chatwright.text.spoken_template import added_tokens, choose_template, with_settings
from chatwright.text.tokenizer_folder import (
    STOPS_FIELD,
    named_templates,
    read_folder,
    read_text,
    saved_config,
    write_folder,
)
from chatwright.text.tool_format import ToolFormat, detect_format

MAX_TOKENIZER_BYTES = 256 * 2**20
_HEAD = "\uf8ff\uf8fe\uf8fd"  # a token of its own before a text, so that the text is not the first
_SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token",
                  "additional_special_tokens")  # fmt: skip
# Names under which control tokens end a turn in every family that has them.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end_of_turn|>")
# Classes of transformers that add bos, or leave it out, as `add_bos_token` says; others follow tokenizer.json alone.
_BOS_CLASSES = ("Llama", "CodeLlama", "Gemma", "Cohere")
# What pre-training put between documents, by the names the supported families use.
_LONG_CHARS = 4096  # only encode_batch lets other threads run meanwhile
_DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>")
_UNUSED_HINTS = ("<|endoftext|>", "<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>", "<unk>", "[UNK]")
Result = TypeVar("Result")


def _guarded(call: Callable[[], Result], what: str) -> Result:
    """Run a call into the Rust library; its panics derive from BaseException and become ModelError."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise ModelError(f"{what}: {type(error).__name__}: {error}") from None


class Tokenizer:
    """A `tokenizer.json` with its configuration and chat template."""

    def __init__(
        self,
        tokenizer_json: str,
        config: Mapping[str, Any],
        *,
        source: str = "tokenizer.json",
        stop_ids: Sequence[int] = (),
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        """`config` is the content of tokenizer_config.json; `source` names the file in errors; `stop_ids` end an answer as
        eos does (the eos lists of config.json and generation_config.json); `generation`: the latter's other settings."""
        self.json, self.config, self.source = tokenizer_json, dict(config), source
        self.generation = dict(generation or {})
        self._given_stop_ids = tuple(stop_ids)
        added = added_tokens(tokenizer_json, source)
        bos, eos = (_token_text(config.get(name)) for name in ("bos_token", "eos_token"))
        spoken = choose_template(config, added, bos=bos, eos=eos)
        self.template, self.native, self.template_problem = spoken.template, spoken.native, spoken.problem
        self.for_tools = spoken.for_tools
        """The checkpoint's own template where conversations with tools may need it."""
        by_id = {token.id: name for name, token in added.items()}
        names = {name for name, token in added.items() if token.special} | spoken.controls | self.template.controls()
        names |= {by_id[i] for i in stop_ids if i in by_id}
        names |= {token for token in (bos, eos, _token_text(config.get("pad_token"))) if token}
        # Control tokens stored as ordinary added tokens would be recognised inside user text: mark them special.
        self._rust = _guarded(lambda: _build(tokenizer_json, names & set(added)), f"{source} is not a usable tokenizer")
        self.special_ids: dict[str, int] = {}
        for name in sorted(names):
            if (token_id := self._rust.token_to_id(name)) is not None:
                self.special_ids[name] = token_id
        if eos and eos not in self.special_ids:
            raise ModelError(f"{source}: the eos token {eos!r} is not in the vocabulary")
        if missing := self.template.controls() - set(self.special_ids):
            raise ModelError(f"{source}: the {self.template.name} chat template needs the tokens {sorted(missing)}")
        self.control_names = frozenset(self.special_ids)
        self.blank_eaters = {
            name: (added[name].lstrip, added[name].rstrip)
            for name in self.control_names & set(added)
            if added[name].lstrip or added[name].rstrip
        }
        """Control tokens that swallow the blanks before and after them: (before, after)."""
        self._choose_ids(bos, eos, source)

    def _choose_ids(self, bos: str, eos: str, source: str) -> None:
        vocabulary = _guarded(lambda: self._rust.get_vocab(True), source)
        self.vocab_size = max(vocabulary.values()) + 1
        self._known_ids = frozenset(vocabulary.values())
        self.bos_id = self.special_ids.get(bos)
        self.eos_id = self._choose_eos(eos, source)
        self.end_of_turn_id = self.special_ids[self.template.end_of_turn]
        turn_ends = {self.special_ids[name] for name in _TURN_ENDS if name in self.special_ids}
        listed = self._known_ids.intersection(self._given_stop_ids)
        self.stop_ids = frozenset({self.eos_id, self.end_of_turn_id} | turn_ends | listed)
        self.stop_names = frozenset(name for name, i in self.special_ids.items() if i in self.stop_ids)
        self.document_end_id = next((self.special_ids[t] for t in _DOCUMENT_ENDS if t in self.special_ids), self.eos_id)
        self.pad_id = self._choose_pad(_token_text(self.config.get("pad_token")))
        self._special_set = frozenset(self.special_ids.values())
        self.text_prefix_ids = self._choose_text_prefix()
        """Text that the checkpoint puts before raw text: bos, where it does."""

    # ---- files -----------------------------------------------------------------------------------------

    @classmethod
    def from_folder(cls, path: str | Path) -> Tokenizer:
        """From a folder with tokenizer.json and, where there, its configuration and chat template."""
        folder = Path(path)
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise ModelError(f"{folder}: has no tokenizer.json; save the model with a fast tokenizer first")
        if file.stat().st_size > MAX_TOKENIZER_BYTES:
            raise ModelError(f"{file}: is larger than {MAX_TOKENIZER_BYTES:,} bytes; this is no tokenizer")
        found = read_folder(folder)
        return cls(
            read_text(file), found.config, source=str(file), stop_ids=found.stop_ids, generation=found.generation
        )

    @classmethod
    def from_json(cls, tokenizer_json: str, config: Mapping[str, Any]) -> Tokenizer:
        """From the text of a tokenizer.json and the content of a tokenizer_config.json (bos_token, eos_token,
        pad_token, chat_template), as built from a GGUF header."""
        return cls(tokenizer_json, config)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json. The chat template that came in is
        written back, unless settings of ours changed it. Loading the folder gives an equal tokenizer."""
        special = {name: self.piece(i) for name, i in (("bos_token", self.bos_id), ("eos_token", self.eos_id),
                                                       ("pad_token", self.pad_id)) if i is not None}  # fmt: skip
        fields = {TEMPLATE_FIELD: self.template.to_dict(), STOPS_FIELD: sorted(self.stop_ids)}
        config = saved_config(self.config, special, self.jinja_templates(), fields)
        named = {name: config[name] for name in _SPECIAL_NAMES if config.get(name)}
        write_folder(Path(folder), self.json, config, named)

    def jinja_templates(self) -> str | list[dict[str, str]]:
        """The chat template(s) for other programs: what came in where it says what ours says, else one that does."""
        stored = self.config.get("chat_template")
        if self.template.name == "native" or self.template_problem:
            return with_settings(stored or "", self.template)
        return stored if stored and self._stored_is_ours() else jinja(self.template)

    def jinja(self) -> str:
        """The chat template for other programs, the default one where there are several."""
        return named_templates({"chat_template": self.jinja_templates()}).get("default", "")

    def _stored_is_ours(self) -> bool:
        bare = {k: v for k, v in self.config.items() if k != TEMPLATE_FIELD}
        bos, eos = (_token_text(bare.get(name)) for name in ("bos_token", "eos_token"))
        return choose_template(bare, added_tokens(self.json, self.source), bos=bos, eos=eos).template == self.template

    def with_default_system(self, text: str) -> Tokenizer:
        """The same tokenizer whose template uses `text` as the system message of conversations that have none ("": what
        the template does by itself). TemplateError when the template has no place for one."""
        if self.template.name not in ("chatml", "native"):
            raise TemplateError(f"the {self.template.name} chat template has no default system message; put it in the data")
        return self.with_settings(replace(self.template, default_system=text))

    def with_settings(self, template: ChatTemplate, chat_template: Any = None) -> Tokenizer:
        """The same tokenizer with other settings of its template, and with another Jinja text where one is given."""
        config = self.config | {TEMPLATE_FIELD: template.to_dict()}
        return self.with_config(config | ({} if chat_template is None else {"chat_template": chat_template}))

    def with_config(self, config: Mapping[str, Any]) -> Tokenizer:
        """The same tokenizer.json and stop tokens with another tokenizer_config.json."""
        return Tokenizer(
            self.json, config, source=self.source, stop_ids=self._given_stop_ids, generation=self.generation
        )

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that decides ids: the tokenizer file, special tokens and chat template."""
        parts = [json.loads(self.json), sorted(self.special_ids.items()), self.pinned_template.to_dict(), self.pad_id]
        if self.native is not None:
            parts.append([self.native.source, self.native.tool_source])
        elif self.for_tools is not None:
            parts.append(["tools", self.for_tools.source, self.for_tools.tool_source])
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def pinned_template(self) -> ChatTemplate:
        """The template with every setting that has a default here written out."""
        off = self.native is not None and self.native.has_thinking_switch and not self.template.thinking
        return replace(self.template, thinking="off") if off else self.template

    def pinned(self) -> Tokenizer:
        """For a model trained here: its Jinja text tells other programs the settings it was trained with."""
        changed = self.pinned_template != self.template
        return self.with_settings(self.pinned_template) if changed else self

    def ids_without_token(self, num_ids: int) -> tuple[int, ...]:
        """Ids below `num_ids` that stand for nothing: rows by which an embedding was padded, and gaps."""
        return tuple(i for i in range(num_ids) if i not in self._known_ids)

    @cached_property
    def tool_format(self) -> ToolFormat | None:
        """The form in which the chat template writes tool calls; None where it describes no tools, or in an unknown form."""
        if self.for_tools is None or self.template_problem:
            return None
        return detect_format(self.for_tools, self.tool_settings, self.special_ids, layout=self.template.name)

    @property
    def tool_settings(self) -> ChatTemplate:
        """The settings with which `for_tools` renders. It writes a layout's default system message by itself."""
        return self.template if self.template.name == "native" else replace(self.template, default_system="")

    # ---- text to ids -----------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: special tokens are never recognised, nothing is added."""
        return self.encode_with_ends(text)[0]

    def encode_many(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` for many texts at once."""
        checked = [_checked(text) for text in texts]
        found = _guarded(lambda: self._rust.encode_batch(checked, add_special_tokens=False), "the tokenizer failed")
        return [
            list(encoding.ids) if self._special_set.isdisjoint(encoding.ids) else self.encode(text)
            for encoding, text in zip(found, checked, strict=True)
        ]

    def encode_with_ends(self, text: str, *, continued: bool = False) -> tuple[list[int], list[int]]:
        """Ids, and for each the index in `text` (in characters) where its token ends.

        `continued`: the text follows other tokens; some tokenizers begin only a whole text with a blank.
        """
        if not text:
            return [], []
        _checked(text)
        ids, ends = self._encode_plainly(text, continued)
        return (ids, ends) if self._special_set.isdisjoint(ids) else self._encode_broken_up(text)

    def _encode_plainly(self, text: str, continued: bool = False) -> tuple[list[int], list[int]]:
        if continued and self._first_differs and _HEAD not in text:
            rust = self._after_head
            encoding = _guarded(lambda: _encoding(rust, _HEAD + text), "the tokenizer failed")
            return list(encoding.ids)[1:], [end - len(_HEAD) for _, end in encoding.offsets[1:]]
        encoding = _guarded(lambda: _encoding(self._rust, text), "the tokenizer failed")
        return list(encoding.ids), [end for _, end in encoding.offsets]

    @cached_property
    def _first_differs(self) -> bool:
        """True when the first text of an input is encoded in another way than the text after a control token."""
        return re.search(r'"prepend_scheme"\s*:\s*"first"', self.json) is not None

    @cached_property
    def _after_head(self) -> tokenizers.Tokenizer:
        rust = _guarded(lambda: _build(self.json, set(self.special_ids)), self.source)
        rust.add_tokens([tokenizers.AddedToken(_HEAD, normalized=False, special=False)])
        return rust

    def _encode_broken_up(self, text: str) -> tuple[list[int], list[int]]:
        """Some models (Unigram, whole-word BPE) hold control tokens in their own vocabulary and find them in plain
        text too. Such names are encoded in two halves, so that no half can match; the text itself stays whole."""
        cuts = {0, len(text)}
        for name in self.special_ids:
            start = text.find(name) if len(name) > 1 else -1
            while start >= 0:
                cuts.add(start + max(1, len(name) // 2))
                start = text.find(name, start + 1)
        ids: list[int] = []
        ends: list[int] = []
        bounds = sorted(cuts)
        for start, end in zip(bounds, bounds[1:], strict=False):
            part_ids, part_ends = self._encode_plainly(text[start:end])
            ids += part_ids
            ends += [start + part_end for part_end in part_ends]
        unknown = self._rust.token_to_id(_token_text(self.config.get("unk_token")) or "<unk>")
        if not self._special_set.isdisjoint(set(ids) - {unknown}):
            raise TemplateError(f"this tokenizer turns plain text into control tokens: {text[:80]!r}")
        return ids, ends

    # ---- ids to text -----------------------------------------------------------------------------------

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of ids; incomplete UTF-8 becomes U+FFFD."""
        text: str = _guarded(lambda: self._rust.decode(list(ids), skip_special_tokens=skip_special), "decoding failed")
        return text

    def piece(self, token_id: int) -> str:
        """The token's entry in the vocabulary ("" for an id beyond it)."""
        return self._rust.id_to_token(token_id) or ""

    def stream_decoder(self, shown_ids: frozenset[int] = frozenset()) -> StreamDecoder:
        """A decoder that takes one id at a time. `shown_ids`: control tokens whose names are part of the text."""
        return StreamDecoder(self, shown_ids)

    # ---- choices ---------------------------------------------------------------------------------------

    def _choose_eos(self, name: str, source: str) -> int:
        if not name and not self.template.end_of_turn:
            raise ModelError(f'{source}: no eos token is named; add "eos_token" to tokenizer_config.json')
        return self.special_ids[name or self.template.end_of_turn]

    def _choose_text_prefix(self) -> tuple[int, ...]:
        plain, whole = (self._encode_sample(special) for special in (False, True))
        starts = [n for n in range(len(whole)) if plain and whole[n : n + len(plain)] == plain]
        prefix = tuple(whole[: starts[0]]) if starts else ()
        wants = self.config.get("add_bos_token")
        adds_by_class = str(self.config.get("tokenizer_class", "")).startswith(_BOS_CLASSES)
        if self.bos_id is None or (wants is False and adds_by_class):
            return tuple(i for i in prefix if i != self.bos_id)
        asked = wants is True or bool(self.template.bos)
        return (self.bos_id, *prefix) if asked and self.bos_id not in prefix else prefix

    def _encode_sample(self, special: bool) -> list[int]:
        return list(_guarded(lambda: self._rust.encode("a", add_special_tokens=special), self.source).ids)

    def _choose_pad(self, name: str) -> int:
        """The configured pad unless it stops generation (SmolLM2's pad is its end of turn): then an unused one."""
        taken = self.stop_ids | {self.special_ids[token] for token in self.template.controls()} | {self.bos_id}
        if name in self.special_ids and self.special_ids[name] not in taken:
            return self.special_ids[name]
        known = [self.special_ids[token] for token in _UNUSED_HINTS if token in self.special_ids]
        return next((i for i in known + sorted(self.special_ids.values()) if i not in taken), self.eos_id)


class StreamDecoder:
    """Text from ids as they come; gives only complete characters.

    `push` and `flush` together give what `decode` gives for the whole, with the names of `shown_ids` in it.
    """

    def __init__(self, tokenizer: Tokenizer, shown_ids: frozenset[int] = frozenset()) -> None:
        self._tokenizer, self._shown_ids = tokenizer, shown_ids
        self._ids: list[int] = []
        self._start = 0
        self._read = 0

    def push(self, token_id: int) -> str:
        """Text that became certain with this id; "" while a character is incomplete."""
        if token_id in self._shown_ids:
            return self._take(final=True) + self._tokenizer.piece(token_id)
        self._ids.append(token_id)
        return self._take(final=False)

    def flush(self) -> str:
        """What is left, incomplete characters as U+FFFD."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> str:
        # Ids before `_read` are given out already; they are decoded again as context, as blanks depend on them.
        before = self._tokenizer.decode(self._ids[self._start : self._read])
        text = self._tokenizer.decode(self._ids[self._start :])
        if len(text) <= len(before) or (text.endswith("\ufffd") and not final):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text[len(before) :]


def _build(tokenizer_json: str, special: set[str]) -> tokenizers.Tokenizer:
    rust = tokenizers.Tokenizer.from_str(tokenizer_json)
    rust.no_truncation()
    rust.no_padding()
    rust.add_special_tokens([tokenizers.AddedToken(name, normalized=False, special=True) for name in sorted(special)])
    rust.encode_special_tokens = True
    return rust


def _token_text(value: Any) -> str:
    """A token named in a configuration: a string, or `{"content": ...}`."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _encoding(rust: tokenizers.Tokenizer, text: str) -> tokenizers.Encoding:
    if len(text) < _LONG_CHARS:
        return rust.encode(text, add_special_tokens=False)
    return rust.encode_batch([text], add_special_tokens=False)[0]


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TemplateError(f"text holds half a surrogate pair ({text[error.start]!r}); it cannot be encoded") from None
    return text


# Forked workers with the library's threads alive may hang; our batches are small enough for one process.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
