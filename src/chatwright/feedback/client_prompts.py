"""Prompts that no person wrote: chat clients ask the model for titles, tags, follow-ups and the like in the background.

The patterns were read off the clients' own sources (Open WebUI's `config.py`, LibreChat's `packages/agents`, LobeChat's
`packages/prompts`, NextChat's locales, and others that follow them) and what proxies before them filter. A question of a
person about titles stays in: a pattern wants the whole shape of such a request, not a word of it.
"""

from __future__ import annotations

import re

from chatwright.records import Conversation

_FLAGS = re.IGNORECASE | re.DOTALL
# Open WebUI begins with "### Task:" and carries the conversation in a block of its own.
_OPEN_WEBUI = re.compile(r"\s*#{2,4}\s*Task:", re.IGNORECASE)
_OPEN_WEBUI_DATA = re.compile(
    r"<chat_history>|#{2,4}\s*(?:Chat History|Output)\s*:|JSON format:|</?type>|\*\*completion type\*\*|"
    r"<context>|<user_query>|<source",
    re.IGNORECASE,
)
_OPEN_WEBUI_KINDS = (
    ("title", r"\btitle\b"),
    ("follow_ups", r"follow-?up"),
    ("tags", r"\btags?\b"),
    ("search_query", r"search quer|\bqueries\b"),
    ("autocomplete", r"autocompletion system|\bcompletion type\b"),
    ("image_prompt", r"image (?:generation|prompt)|prompt for .{0,40}image"),
    ("retrieved_context", r"Respond to the user query|provided context|incorporating inline citations"),
)
# What is asked of the model in a message of the user.
_ASKED: tuple[tuple[str, str], ...] = (
    ("title", r"^\s*Provide a concise, 5-word-or-less title\b"),
    ("title", r"^\s*Please generate a four to five word title summarizing our conversation\b"),
    ("title", r"^\s*(?:Please )?(?:write|generate|create|provide)\b.{0,40}\btitle (?:for|of|summari[sz]ing) "
              r"(?:this|the|our|following) (?:chat|conversation|dialogue|discussion)\b.{0,400}"
              r"\b(?:only|no (?:quotes|punctuation)|without|words or (?:less|fewer)|max)\b"),
    ("title", r"^\s*Generate a title in less than \d+ words for the following message\b"),
    ("title", r"\bsummari[sz]e the title of the conversation in a few words\b"),
    ("title", r"^\s*(?:请)?使用四到五个字直接返回这句话的简要主题"),
    ("title", r"请?总结上述对话为\s*\d+\s*个字以内的标题"),
    ("title", r"^\s*(?:请)?(?:为|根据)(?:以上|上述|这段|本次|下面的?)(?:对话|会话|聊天).{0,20}(?:生成|起|取)一?个.{0,12}标题"
              r".{0,80}(?:只|直接|不要|仅)"),
    ("title", r"^\s*Create a concise, 3-5 word phrase as a header for the following query\b"),
    ("title", r"^\s*Analyze this conversation and provide:?\s.{0,200}\btitle\b.{0,200}\b5 words or less\b"),
    ("emoji", r"^\s*Your task is to reflect the speaker's likely facial expression through a fitting emoji\b"),
    ("merged_answer", r"^\s*You have been provided with a set of responses from various models to the latest user query\b"),
    ("summary", r"\bSummarize the discussion briefly in 200 words or less to use as a prompt for future context\b"),
    ("summary", r"简要总结一下对话内容，用作后续的上下文提示\s*prompt"),
)  # fmt: skip
# What a system prompt says of such a helper.
_SYSTEM: tuple[tuple[str, str], ...] = (
    ("title", r"^\s*You are a professional conversation summarizer\. Generate a concise title\b"),
    ("title", r"你是一名擅长会话的助理，.{0,60}总结为\s*\d+\s*个字以内的标题"),
    ("title", r"^\s*You (?:are an assistant|will be given|are a title generator).{0,200}\b(?:generate|write|create)\b.{0,80}"
              r"\b(?:title|name) (?:for|of) (?:this|the|a) (?:chat|conversation|session)\b"),
    ("tags", r"^\s*你是一名擅长会话标签总结的助理"),
    ("emoji", r"^\s*You are an emoji expert who selects\b"),
    ("summary", r"^\s*You are an assistant skilled at summari[sz]ing (?:dialogues|conversations|chat history)\b"),
    ("summary", r"^\s*你是一名擅长会话的助理，.{0,40}(?:摘要|做出总结)"),
    ("search_query", r"^\s*(?:You are|你是).{0,80}\brephras(?:e|ing)\b.{0,120}\b(?:standalone|search quer)"),
    ("autocomplete", r"^\s*You are an? (?:autocompletion|code completion) (?:system|engine|assistant)\b"),
)  # fmt: skip
_ASKED_PATTERNS = tuple((kind, re.compile(pattern, _FLAGS)) for kind, pattern in _ASKED)
_SYSTEM_PATTERNS = tuple((kind, re.compile(pattern, _FLAGS)) for kind, pattern in _SYSTEM)
_OPEN_WEBUI_PATTERNS = tuple((kind, re.compile(pattern, _FLAGS)) for kind, pattern in _OPEN_WEBUI_KINDS)
_HEAD = 4000  # instructions stand at the beginning or the end; in between is the conversation they are about

KINDS = tuple(dict.fromkeys(kind for kind, _ in (*_OPEN_WEBUI_KINDS, *_ASKED, *_SYSTEM))) + ("task",)


def background_kind(messages: Conversation) -> str:
    """What a client wanted in the background: title, tags, follow_ups, ...; "" for what a person asked.

    `retrieved_context` is a question of a person inside pages that a client looked up: those texts belong to others.
    """
    asked = messages[-1].content
    ends = asked if len(asked) <= 2 * _HEAD else f"{asked[:_HEAD]}\n{asked[-_HEAD:]}"
    system = messages[0].content[:_HEAD] if messages[0].role == "system" else ""
    for text in (ends, system):
        if _OPEN_WEBUI.match(text) and _OPEN_WEBUI_DATA.search(ends):
            # The first words say what is wanted; what follows may name anything.
            first = text[:400]
            return next((kind for kind, pattern in _OPEN_WEBUI_PATTERNS if pattern.search(first)), "task")
    for kind, pattern in _ASKED_PATTERNS:
        if pattern.search(ends):
            return kind
    for kind, pattern in _SYSTEM_PATTERNS:
        if system and pattern.search(system):
            return kind
    return ""
