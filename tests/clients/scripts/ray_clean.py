"""Our filters as a stage of Ray Data: IN (Parquet) cleaned by a worker of its own, OUT (JSONL); rows by reason on stdout."""

import json
import sys

import ray
from ray.data.expressions import col

from chatwright.data.corpus_build.adapters import RayCleaner
from chatwright.data.corpus_build.config import BuildConfig

source, out = sys.argv[1:3]
ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
cleaned = ray.data.read_parquet(source).map_batches(
    RayCleaner, fn_constructor_args=(BuildConfig(files=("-",), tokenizer="-", out="-"),), concurrency=1, batch_size=64
).materialize()
cleaned.filter(expr=col("dropped") == "").write_json(out)
rows = cleaned.groupby("dropped", num_partitions=2).count().take_all()
print(json.dumps({row["dropped"]: row["count()"] for row in rows}))
