"""The same filters as stages of engines that run on many machines: datatrove and Ray Data. Neither is imported here.

    from datatrove.executor import SlurmPipelineExecutor            # or LocalPipelineExecutor
    SlurmPipelineExecutor(pipeline=[JsonlReader(...), DatatroveCleaner(cfg, drops="/shared/drops"), ...])

    import ray
    ray.data.read_parquet(...).map_batches(RayCleaner, fn_constructor_args=(cfg,), concurrency=64).write_json("clean/")

What comes out (text with its language and script) is the input of `chatwright corpus build --raw`, or of the engines' own
deduplication and tokenisation, which work across machines where ours works on one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chatwright.data.corpus_build.cleaner import Clean, Cleaner
from chatwright.data.corpus_build.config import BuildConfig
from chatwright.data.corpus_build.decontaminate import contamination
from chatwright.data.corpus_build.work import Counts


def _cleaner(cfg: BuildConfig) -> Cleaner:
    return Cleaner(cfg, contamination(cfg.decontaminate) if cfg.decontaminate else None)


class DatatroveCleaner:
    """A step of a datatrove pipeline: takes its documents, gives those that are kept, with `language` and `script` in
    their metadata. Each task writes what it dropped and why to `drops`/RANK.json."""

    def __init__(self, cfg: BuildConfig, drops: str | Path) -> None:
        """`cfg`: files, tokenizer and out are not used here. `drops`: a folder that every machine can write to."""
        self._cfg, self._drops = cfg, str(drops)

    def __call__(self, data: Iterable[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Documents of task `rank` in, kept ones out."""
        # Made here, not in __init__: the step is pickled to where it runs.
        cleaner, counts = _cleaner(self._cfg), Counts()
        for document in data:
            found = cleaner(document.text)
            size = len(document.text.encode("utf-8", "surrogatepass"))
            if isinstance(found, Clean):
                counts.keep(size, found.scrubbed)
                document.text = found.text
                document.metadata |= {"language": found.tags.language, "script": found.tags.script}
                yield document
            else:
                counts.drop(found.reason, str(document.id), size)
        folder = Path(self._drops)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{rank:05d}.json").write_text(json.dumps(counts.to_dict(), ensure_ascii=False), encoding="utf-8")


class RayCleaner:
    """A class for `ray.data.Dataset.map_batches`: batches of columns in, the same rows out with `text` cleaned, `language`,
    `script`, and `dropped` (the reason, "" for kept rows: `.filter(expr="dropped == ''")` leaves these, and
    `.groupby("dropped").count()` counts the others by reason)."""

    def __init__(self, cfg: BuildConfig) -> None:
        """`cfg`: files, tokenizer and out are not used here."""
        self._cleaner, self._field = _cleaner(cfg), cfg.text_field

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """One batch, columns as numpy arrays."""
        found = [self._cleaner(str(text)) for text in batch[self._field]]
        kept = [one if isinstance(one, Clean) else None for one in found]
        columns = {
            self._field: [one.text if one else "" for one in kept],
            "language": [one.tags.language if one else "" for one in kept],
            "script": [one.tags.script if one else "" for one in kept],
            "dropped": ["" if isinstance(one, Clean) else one.reason for one in found],
        }
        return {**batch, **{name: np.array(values, dtype=object) for name, values in columns.items()}}
