"""Text to token ids and back, over the `tokenizers` library.

Message text never yields control tokens: special tokens are not recognised in what `encode` is given; control
tokens are inserted as ids by `chatwright.text.chat`. No bos or eos is added here either.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import tokenizers

from chatwright.errors import ModelError, TemplateError
from chatwright.text.chat import TEMPLATE_FIELD, ChatTemplate, detect, jinja

MAX_TOKENIZER_BYTES = 256 * 2**20
# What pre-training put between documents, by the names the supported families use.
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

    def __init__(self, tokenizer_json: str, config: Mapping[str, Any], *, source: str = "tokenizer.json") -> None:
        """`config` is the content of tokenizer_config.json; `source` names the file in errors."""
        self.json = tokenizer_json
        self.config = dict(config)
        added = _added_tokens(tokenizer_json, source)
        bos, eos = (_token_text(config.get(name)) for name in ("bos_token", "eos_token"))
        self.template = _template(config, added, bos, eos)
        names = {token for token, (_, special) in added.items() if special}
        names |= {
            token for token in (*self.template.controls(), bos, eos, _token_text(config.get("pad_token"))) if token
        }
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
        self.bos_id = self.special_ids.get(bos)
        self.eos_id = self._choose_eos(eos, source)
        self.end_of_turn_id = self.special_ids[self.template.end_of_turn]
        self.stop_ids = frozenset({self.eos_id, self.end_of_turn_id})
        self.document_end_id = next((self.special_ids[t] for t in _DOCUMENT_ENDS if t in self.special_ids), self.eos_id)
        self.pad_id = self._choose_pad(_token_text(config.get("pad_token")))
        self.vocab_size = max(_guarded(lambda: self._rust.get_vocab(True), source).values()) + 1
        self._special_set = frozenset(self.special_ids.values())

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
        config = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
        template_file = folder / "chat_template.jinja"
        if template_file.is_file():
            config["chat_template"] = _read_text(template_file)
        return cls(_read_text(file), config, source=str(file))

    @classmethod
    def from_json(cls, tokenizer_json: str, config: Mapping[str, Any]) -> Tokenizer:
        """From the text of a tokenizer.json and the content of a tokenizer_config.json (bos_token, eos_token,
        pad_token, chat_template), as built from a GGUF header."""
        return cls(tokenizer_json, config)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json (with a Jinja chat template that renders as ours does) and
        special_tokens_map.json. Loading the folder gives an equal tokenizer."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        special = {name: self.piece(i) for name, i in (("bos_token", self.bos_id), ("eos_token", self.eos_id),
                                                       ("pad_token", self.pad_id)) if i is not None}  # fmt: skip
        if (unknown := _token_text(self.config.get("unk_token"))) in self.special_ids:
            special["unk_token"] = unknown
        config = {name: value for name, value in self.config.items() if _is_json(value)} | special
        config |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        config |= {"chat_template": jinja(self.template), TEMPLATE_FIELD: self.template.to_dict()}
        config.pop("auto_map", None)
        (target / "tokenizer.json").write_text(self.json, encoding="utf-8")
        for name, value in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
            (target / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    def with_default_system(self, text: str) -> Tokenizer:
        """The same tokenizer whose template uses `text` as the system message of conversations that have none ("": no
        system turn). TemplateError when the template has no place for one."""
        if self.template.name != "chatml":
            raise TemplateError(f"the {self.template.name} chat template has no default system message; put it in the data")
        config = self.config | {TEMPLATE_FIELD: replace(self.template, default_system=text).to_dict()}
        return Tokenizer(self.json, config)

    @property
    def fingerprint(self) -> str:
        """sha256 of everything that decides ids: the tokenizer file, special tokens and chat template."""
        parts = [json.loads(self.json), sorted(self.special_ids.items()), self.template.to_dict(), self.pad_id]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

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

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Ids, and for each the index in `text` (in characters) where its token ends."""
        if not text:
            return [], []
        _checked(text)
        ids, ends = self._encode_plainly(text)
        return (ids, ends) if self._special_set.isdisjoint(ids) else self._encode_broken_up(text)

    def _encode_plainly(self, text: str) -> tuple[list[int], list[int]]:
        encoding = _guarded(lambda: self._rust.encode(text, add_special_tokens=False), "the tokenizer failed")
        return list(encoding.ids), [end for _, end in encoding.offsets]

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

    def stream_decoder(self) -> StreamDecoder:
        """A decoder that takes one id at a time."""
        return StreamDecoder(self)

    # ---- choices ---------------------------------------------------------------------------------------

    def _choose_eos(self, name: str, source: str) -> int:
        if not name and not self.template.end_of_turn:
            raise ModelError(f'{source}: no eos token is named; add "eos_token" to tokenizer_config.json')
        return self.special_ids[name or self.template.end_of_turn]

    def _choose_pad(self, name: str) -> int:
        """The configured pad unless it stops generation (SmolLM2's pad is its end of turn): then an unused one."""
        taken = self.stop_ids | {self.special_ids[token] for token in self.template.controls()} | {self.bos_id}
        if name in self.special_ids and self.special_ids[name] not in taken:
            return self.special_ids[name]
        known = [self.special_ids[token] for token in _UNUSED_HINTS if token in self.special_ids]
        return next((i for i in known + sorted(self.special_ids.values()) if i not in taken), self.eos_id)


class StreamDecoder:
    """Text from ids as they come; gives only complete characters.

    `push` and `flush` together give what `decode` gives for the whole.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0
        self._read = 0

    def push(self, token_id: int) -> str:
        """Text that became certain with this id; "" while a character is incomplete."""
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


def _added_tokens(tokenizer_json: str, source: str) -> dict[str, tuple[int, bool]]:
    """{token: (id, special)} of a tokenizer.json."""
    try:
        added = json.loads(tokenizer_json).get("added_tokens", [])
        return {token["content"]: (token["id"], bool(token.get("special"))) for token in added}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise ModelError(f"{source}: is not a tokenizer.json (damaged, or of another kind)") from None


def _template(config: Mapping[str, Any], added: Mapping[str, tuple[int, bool]], bos: str, eos: str) -> ChatTemplate:
    if TEMPLATE_FIELD in config:
        return ChatTemplate.from_dict(config[TEMPLATE_FIELD])
    own = config.get("chat_template")
    if isinstance(own, list):  # several named templates
        own = next((t.get("template") for t in own if isinstance(t, dict) and t.get("name") == "default"), "")
    return detect(
        {name: i for name, (i, _) in added.items()}, bos=bos, eos=eos, jinja=own if isinstance(own, str) else ""
    )


def _token_text(value: Any) -> str:
    """A token named in a configuration: a string, or `{"content": ...}`."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TemplateError(f"text holds half a surrogate pair ({text[error.start]!r}); it cannot be encoded") from None
    return text


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: cannot be read: {error}") from None


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    text = _read_text(file)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{file}: is not JSON") from None
    if not isinstance(value, dict):
        raise ModelError(f"{file}: must hold a JSON object")
    return value


# Forked workers with the library's threads alive may hang; our batches are small enough for one process.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
