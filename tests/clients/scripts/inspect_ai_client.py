"""Drives a server through inspect-ai: URL, key."""

from __future__ import annotations

import sys
import tempfile

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, ResponseSchema, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool
from inspect_ai.util import json_schema
from pydantic import BaseModel

url, key = sys.argv[1:]
logs = tempfile.mkdtemp()


class City(BaseModel):
    city: str


@tool
def add():
    async def execute(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: The first.
            b: The second.
        """
        return a + b

    return execute


def model(name: str):
    return get_model(f"openai-api/chatwright/{name}", base_url=f"{url}/v1", api_key=key, memoize=False)


def ask(name: str, text: str = "hi", target: str = "Hello", solver=None, **config):
    task = Task(
        dataset=[Sample(input=text, target=target)], solver=solver or generate(), scorer=includes(),
        config=GenerateConfig(max_retries=0, **config), message_limit=7,
    )  # fmt: skip
    (log,) = eval(task, model=model(name), log_dir=logs, display="none")
    assert log.status == "success", log.error
    return log.samples[0]


sample = ask("scripted")
assert sample.scores["includes"].value == "C"
usage = sample.output.usage
assert (usage.input_tokens, usage.input_tokens_cache_read, usage.output_tokens, usage.total_tokens) == (1, 1, 11, 13)
called = ask("caller", solver=[use_tools(add()), generate()])
results = [message for message in called.messages if message.role == "tool"]
assert results and {result.text for result in results} == {"3"}
schema = ResponseSchema(name="city", json_schema=json_schema(City), strict=True)
assert City.model_validate_json(ask("json", response_schema=schema).output.completion).city == "Paris"
assert ask("tiny", "word " * 4000, max_tokens=5).output.stop_reason == "model_length"
scored = ask("tiny", max_tokens=3, logprobs=True, top_logprobs=2)
assert len(scored.output.choices[0].logprobs.content[0].top_logprobs) == 2
print("ok")
