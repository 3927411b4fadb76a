"""Drives a server through the `openai` package: argument: base URL, key. Prints JSON; fails by an assertion."""

from __future__ import annotations

import json
import sys

import openai
from pydantic import BaseModel

URL, KEY = sys.argv[1:]
client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
HI = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "add", "strict": True,
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                       "required": ["a", "b"], "additionalProperties": False},
    },
}  # fmt: skip


class City(BaseModel):
    city: str


def fails(kind: type[openai.APIStatusError], code: str | None, **fields: object) -> openai.APIStatusError:
    try:
        client.chat.completions.create(**{"model": "tiny", "messages": HI, **fields})
    except kind as error:
        assert type(error) is kind and error.code == code and error.request_id, (error, error.code)
        return error
    raise AssertionError(f"no {kind.__name__}")


models = [model.id for model in client.models.list()]
assert models == ["tiny", "scripted", "caller", "json"] and client.models.retrieve("tiny").id == "tiny"

answer = client.chat.completions.create(
    model="tiny", messages=HI, max_completion_tokens=8, n=2, seed=1, logprobs=True, top_logprobs=3
)
assert len(answer.choices) == 2 and answer.usage.completion_tokens <= 16 and answer._request_id
for choice in answer.choices:
    assert choice.finish_reason in ("stop", "length") and len(choice.logprobs.content[0].top_logprobs) == 3
assert client.chat.completions.create(model="scripted", messages=HI).choices[0].message.content == "Hello there"

stream = client.chat.completions.create(model="scripted", messages=HI, stream=True, stream_options={"include_usage": True})
chunks = list(stream)
assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello there"
assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 13
with client.chat.completions.stream(model="caller", messages=HI, tools=[TOOL]) as events:
    final = events.get_final_completion()
assert final.choices[0].message.tool_calls[0].function.parsed_arguments == {"a": 1, "b": 2}

called = client.chat.completions.create(model="caller", messages=HI, tools=[TOOL], tool_choice="required").choices[0]
assert called.finish_reason == "tool_calls"
assert json.loads(called.message.tool_calls[0].function.arguments) == {"a": 1, "b": 2}
history = [*HI, called.message, {"role": "tool", "tool_call_id": called.message.tool_calls[0].id, "content": "3"}]
assert client.chat.completions.create(model="scripted", messages=history).choices[0].message.content == "Hello there"
parsed = client.chat.completions.parse(model="json", messages=HI, response_format=City)
assert parsed.choices[0].message.parsed == City(city="Paris")
# The tiny model's weights are random: only the constraint makes this JSON.
schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
form = {"type": "json_schema", "json_schema": {"name": "ok", "schema": schema, "strict": True}}
made = client.chat.completions.create(model="tiny", messages=HI, response_format=form, max_tokens=400, seed=2)
if made.choices[0].finish_reason == "stop":
    assert type(json.loads(made.choices[0].message.content)["ok"]) is bool

whole = client.completions.create(model="tiny", prompt=["The", "A"], echo=True, logprobs=2, max_tokens=1)
assert [c.index for c in whole.choices] == [0, 1] and whole.choices[0].logprobs.token_logprobs[0] is None
pieces = client.completions.create(model="scripted", prompt="x", stream=True)
assert "".join(piece.choices[0].text for piece in pieces) == "Hello there"

vectors = client.embeddings.create(model="tiny", input=["a", "b"])  # the client asks for base64 by itself
assert len(vectors.data[1].embedding) == 32 and type(vectors.data[0].embedding[0]) is float
plain = client.embeddings.create(model="tiny", input=["a", "b"], encoding_format="float")
assert all(abs(x - y) < 1e-6 for x, y in zip(vectors.data[1].embedding, plain.data[1].embedding, strict=True))
assert len(client.embeddings.create(model="tiny", input=[1, 2], dimensions=5).data[0].embedding) == 5

reply = client.responses.create(model="scripted", input="hi", instructions="be kind")
assert reply.output_text == "Hello there" and reply.usage.total_tokens == 20
assert client.responses.parse(model="json", input="hi", text_format=City).output_parsed == City(city="Paris")
with client.responses.stream(model="scripted", input="hi") as events:
    kinds = [event.type for event in events]
    assert events.get_final_response().output_text == "Hello there" and kinds[-1] == "response.completed"
flat = {"type": "function", **TOOL["function"]}
(item,) = client.responses.create(model="caller", input="hi", tools=[flat]).output
assert item.type == "function_call" and json.loads(item.arguments) == {"a": 1, "b": 2}

fails(openai.NotFoundError, "model_not_found", model="nope")
assert fails(openai.BadRequestError, "less_than_equal", n=9).param == "n"
assert fails(openai.BadRequestError, "unsupported_parameter", audio={"voice": "x", "format": "wav"}).param == "audio"
long = [{"role": "user", "content": "word " * 5000}]
assert fails(openai.BadRequestError, "context_length_exceeded", messages=long).param == "messages"
client.api_key = "cw-wrong"
fails(openai.AuthenticationError, "invalid_api_key")
print(json.dumps({"version": openai.__version__, "models": models}))
