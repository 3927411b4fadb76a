"""Messages for fields that take a text or lists: the bound that was crossed, not the type of another form."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from chatwright.serve.openai.errors import validation_error
from chatwright.serve.openai.wire import MAX_INPUTS, CompletionRequest, EmbeddingRequest


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (EmbeddingRequest, {"input": ["x"] * 3000}, f"input: Value should have at most {MAX_INPUTS} items"),
        (EmbeddingRequest, {"input": [[1]] * 3000}, f"input: Value should have at most {MAX_INPUTS} items"),
        (EmbeddingRequest, {"input": [1, -2]}, "input[1]: Input should be greater than or equal to 0"),
        (EmbeddingRequest, {"input": "x" * 2_000_000}, "input: String should have at most"),
        (EmbeddingRequest, {"input": []}, "input: List should have at least 1 item"),
        (EmbeddingRequest, {"input": ["a", 3]}, "input[1]: Input should be a valid string"),
        (CompletionRequest, {"prompt": [-5]}, "prompt[0]: Input should be greater than or equal to 0"),
        (CompletionRequest, {"prompt": [2**40]}, "prompt[0]: Input should be less than or equal to"),
        (CompletionRequest, {"prompt": [[1], [-5]]}, "prompt[1][0]: Input should be greater than or equal to 0"),
        (CompletionRequest, {"prompt": {}}, "prompt: Input should be a valid list"),
    ],
)
def test_the_bound_is_named(kind: type[BaseModel], body: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    errors = [{**one, "loc": ("body", *one["loc"])} for one in caught.value.errors()]
    assert validation_error(errors).message.startswith(said)
