"""The corpus filters as a stage of Ray Data, run by Ray itself in an environment of its own (`make check-slow`)."""

from __future__ import annotations

import json
import os
import site
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatwright.data.corpus_build.cleaner import Clean, Cleaner
from chatwright.data.corpus_build.config import BuildConfig
from client_environments import SCRIPTS, python, run
from corpus_texts import article

SOURCE = Path(__file__).parents[2] / "src"
pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.timeout(1200)]


def test_ray_data_cleans_as_we_do(tmp_path: Path) -> None:
    interpreter = python("ray")
    texts = [article(n, chinese=n % 3 == 0) + ("" if n % 5 else " Write to a.b@example.org.") for n in range(500)]
    texts[7::50] = ["short"] * len(texts[7::50])
    pq.write_table(pa.table({"id": list(range(500)), "text": texts}), tmp_path / "in.parquet")
    ours = [Cleaner(BuildConfig(files=("x",), tokenizer="x", out="y"))(text) for text in texts]
    # Ours and what it needs come after Ray's own libraries: both processes of Ray read this path.
    path = os.pathsep.join((str(SOURCE), *site.getsitepackages()))
    told = run(
        [interpreter, SCRIPTS / "ray_clean.py", tmp_path / "in.parquet", tmp_path / "out"],
        timeout_s=600, PYTHONPATH=path, RAY_USAGE_STATS_ENABLED="0", HOME=str(tmp_path),
    )  # fmt: skip
    counts = json.loads(told.strip().splitlines()[-1])
    kept = {n: one for n, one in enumerate(ours) if isinstance(one, Clean)}
    assert counts == {"": len(kept), "too short": 500 - len(kept)} and len(kept) == 490
    rows = [json.loads(line) for part in sorted((tmp_path / "out").glob("*.json")) for line in part.read_text().splitlines()]
    assert {row["id"]: (row["text"], row["language"], row["script"]) for row in rows} == {
        n: (one.text, one.tags.language, one.tags.script) for n, one in kept.items()
    }
