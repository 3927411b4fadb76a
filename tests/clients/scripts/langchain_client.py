"""Drives a server through langchain-openai: URL, key."""

from __future__ import annotations

import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel

url, key = sys.argv[1:]
shared = {"base_url": f"{url}/v1", "api_key": key, "max_retries": 0}


class City(BaseModel):
    city: str


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


chat = ChatOpenAI(model="scripted", max_completion_tokens=20, **shared)
answer = chat.invoke("hi")
assert answer.content == "Hello there" and answer.usage_metadata["total_tokens"] == 13
chunks = list(ChatOpenAI(model="scripted", stream_usage=True, **shared).stream("hi"))
whole = chunks[0]
for chunk in chunks[1:]:
    whole += chunk
assert whole.content == "Hello there" and whole.usage_metadata["output_tokens"] == 11
caller = ChatOpenAI(model="caller", **shared).bind_tools([add], strict=True)
called = caller.invoke("hi")
assert called.tool_calls[0]["args"] == {"a": 1, "b": 2}
result = ToolMessage(str(add.invoke(called.tool_calls[0]["args"])), tool_call_id=called.tool_calls[0]["id"])
assert chat.invoke([HumanMessage("hi"), called, result]).content == "Hello there"
for method in ("json_schema", "json_mode"):
    assert ChatOpenAI(model="json", **shared).with_structured_output(City, method=method).invoke("hi") == City(city="Paris")
assert ChatOpenAI(model="scripted", use_responses_api=True, **shared).invoke("hi").text == "Hello there"
assert OpenAI(model="scripted", **shared).invoke("x") == "Hello there"
# Counting tokens would need a file of OpenAI's.
vectors = OpenAIEmbeddings(model="tiny", check_embedding_ctx_length=False, **shared).embed_documents(["a", "b", "c"])
assert [len(vector) for vector in vectors] == [32] * 3
print("ok")
