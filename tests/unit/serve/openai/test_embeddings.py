"""/v1/embeddings of a model with a trained head: 1536 numbers, cut on request, the same as the library's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from api_server import HEADERS, ApiClient, app_of
from chatwright.generation.embed import load_embedder
from chatwright.model.formats.embedding import EmbeddingSpec, save_embedding_head
from chatwright.model.heads import EmbeddingHead
from chatwright.serve.local_engine import LocalEngine
from tiny_training import save_tiny_model


@pytest.mark.parametrize("pooling, attention", [("mean", "both"), ("last", "causal")])
def test_a_folder_with_a_head_gives_1536_numbers(tmp_path: Path, tokenizer: Any, pooling: Any, attention: Any) -> None:
    folder = save_tiny_model(tmp_path / "model", tokenizer)
    head = EmbeddingHead(32, 1536)
    head.init_orthogonal(torch.Generator().manual_seed(0))
    spec = EmbeddingSpec(pooling=pooling, attention=attention, dimensions=(1536, 768, 256, 64), max_tokens=32)
    save_embedding_head(head, folder, spec)
    engine = LocalEngine.open(str(folder), name="tiny", precision="fp32")
    embedder = load_embedder(folder)
    with app_of(tmp_path / "workspace", engine) as app:
        client = ApiClient(app, HEADERS)
        rows = client.post("/v1/embeddings", json={"input": ["bees", "花落知多少"]}).json()
        assert [len(row["embedding"]) for row in rows["data"]] == [1536, 1536]
        for row, text in zip(rows["data"], ("bees", "花落知多少"), strict=True):
            assert row["embedding"] == pytest.approx(embedder.vector(text), abs=1e-5)
        assert rows["usage"]["prompt_tokens"] == sum(len(embedder.ids(text)) for text in ("bees", "花落知多少"))
        short = client.post("/v1/embeddings", json={"input": "bees", "dimensions": 256}).json()["data"][0]["embedding"]
        assert short == pytest.approx(embedder.vector("bees", 256), abs=1e-5)
        assert sum(x * x for x in short) == pytest.approx(1.0, abs=1e-5)
        refused = client.post("/v1/embeddings", json={"input": "bees", "dimensions": 1537})
        assert refused.status_code == 400 and refused.json()["error"]["param"] == "dimensions"
        client.close()
    asyncio.run(engine.drain(0))
