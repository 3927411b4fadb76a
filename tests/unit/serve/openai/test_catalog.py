"""Models, embeddings, tokens."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from api_server import ApiClient


def test_models(client: ApiClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list" and [row["id"] for row in listed["data"]] == ["scripted"]
    row = client.get("/v1/models/scripted").json()
    assert row == listed["data"][0] and None not in row.values() and row["object"] == "model"


def test_embeddings_as_numbers_and_as_base64(client: ApiClient) -> None:
    numbers = client.post("/v1/embeddings", json={"input": ["a", "bcd"]}).json()
    assert [row["embedding"] for row in numbers["data"]] == [[1 / 3, 0.5, -0.25, 1.0], [1 / 3, 0.5, -0.25, 3.0]]
    assert numbers["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    fields = {"input": ["a", "bcd"], "encoding_format": "base64", "dimensions": 2}
    packed = client.post("/v1/embeddings", json=fields).json()["data"]
    third = struct.unpack("<f", struct.pack("<f", 1 / 3))[0]
    assert [struct.unpack("<2f", base64.b64decode(row["embedding"])) for row in packed] == [(third, 0.5)] * 2


@pytest.mark.parametrize("given, count", [("ab", 1), (["ab", "c"], 2), ([97, 98], 1), ([[97], [98]], 2)])
def test_every_kind_of_input(client: ApiClient, given: Any, count: int) -> None:
    assert len(client.post("/v1/embeddings", json={"input": given}).json()["data"]) == count


def test_refused_inputs(client: ApiClient) -> None:
    for fields in ({"input": ""}, {"input": []}, {"input": ["a", ""]}, {"input": "a", "dimensions": 5}, {"input": ["a", 1]}):
        answer = client.post("/v1/embeddings", json=fields)
        assert answer.status_code == 400 and answer.json()["error"]["param"] in ("input", "dimensions", "input[1]")


def test_tokens_there_and_back(client: ApiClient) -> None:
    found = client.post("/tokenize", json={"prompt": "añ", "return_token_strs": True}).json()
    assert found["tokens"] == [97, 0xC3, 0xB1] and found["count"] == 3 and found["max_model_len"] == 2000
    assert found["token_strs"] == ["a", "bytes:\\xc3", "bytes:\\xb1"]
    assert client.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": "añ"}
    assert client.post("/detokenize", json={"tokens": [256]}).status_code == 400
    assert client.get("/tokenizer_info").json()["eos_token"] == "<eos>"


def test_usage_is_put_on_the_keys_account(client: ApiClient) -> None:
    from chatwright.serve.auth_tables import Usage

    client.post("/v1/embeddings", json={"input": "abc"})
    client.post("/v1/completions", json={"prompt": "abcd", "max_tokens": 2})
    client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}], "stream": True})
    with client.app.state.services.workspace.reading() as session:
        rows = session.query(Usage).all()
    assert [(row.prompt_tokens, row.completion_tokens, row.requests) for row in rows] == [(3 + 4 + 1, 0 + 2 + 11, 3)]
