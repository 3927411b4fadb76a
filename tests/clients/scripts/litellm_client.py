"""Drives a server through litellm: URL, key."""

from __future__ import annotations

import sys

import litellm

url, key = sys.argv[1:]
shared = {"api_base": f"{url}/v1", "api_key": key, "num_retries": 0}
hi = [{"role": "user", "content": "hi"}]
tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}

answer = litellm.completion(model="openai/scripted", messages=hi, n=2, **shared)
assert [choice.message.content for choice in answer.choices] == ["Hello there"] * 2 and answer.usage.total_tokens == 24
options = {"stream": True, "stream_options": {"include_usage": True}}
stream = list(litellm.completion(model="openai/scripted", messages=hi, **options, **shared))
assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "Hello there"
assert [chunk.usage.total_tokens for chunk in stream if getattr(chunk, "usage", None)][-1] == 13
called = litellm.completion(model="openai/caller", messages=hi, tools=[tool], **shared).choices[0]
assert called.finish_reason == "tool_calls" and called.message.tool_calls[0].function.name == "add"
text = litellm.text_completion(model="text-completion-openai/scripted", prompt="x", **shared)
assert text.choices[0].text == "Hello there"
vectors = litellm.embedding(model="openai/tiny", input=["a", "b"], **shared)
assert [len(row["embedding"]) for row in vectors.data] == [32, 32]
reply = litellm.responses(model="openai/scripted", input="hi", **{k: v for k, v in shared.items() if k != "num_retries"})
assert reply.output[0].content[0].text == "Hello there"
for kind, fields in (
    (litellm.NotFoundError, {"model": "openai/nope"}),
    (litellm.ContextWindowExceededError, {"messages": [{"role": "user", "content": "word " * 4000}]}),
    (litellm.BadRequestError, {"n": 9}),
    (litellm.AuthenticationError, {"api_key": "cw-wrong"}),
):
    try:
        litellm.completion(**{"model": "openai/tiny", "messages": hi, **shared, **fields})
    except kind:
        continue
    raise AssertionError(kind)
print("ok")
