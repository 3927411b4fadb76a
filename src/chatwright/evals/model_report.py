"""The page of the run that made a registered model, from the files that its stages left."""

from __future__ import annotations

from pathlib import Path

from chatwright.errors import DataError
from chatwright.evals.commands import page_of
from chatwright.evals.report import html

_WITHDRAWN = (
    "Trained on since-withdrawn texts: {} texts that it learned from were withdrawn. A model cannot forget.",
    "训练数据此后被撤回：它学习过的 {} 条文本已撤回。模型无法遗忘。",
)


def model_page(name: str, model: Path, *, withdrawn: int = 0) -> str:
    """The page as HTML. `model` is the folder `RUN/final`; the runs beside RUN are the stages before it. `withdrawn`: texts
    that it learned from and that were withdrawn since. DataError when no stage left its figures."""
    chain = model.parent.parent
    runs = sorted(file.parent for file in chain.glob("*/metrics.jsonl"))
    if model.name != "final" or model.parent not in runs:
        raise DataError(f"model {name}: the run that made it left no figures, so there is no report")
    notes = [tuple(words.format(withdrawn) for words in _WITHDRAWN)] if withdrawn else []
    if (chain / "page.json").is_file():
        page = page_of(chain)
        return html({**page, "notes": [*page.get("notes", ()), *notes]})
    page = page_of(model.parent)
    for run in runs:
        stage = page_of(run)
        page["curves"] = {**stage["curves"], **page["curves"]}
        page["card"] = page["card"] or stage["card"]
    return html({**page, "notes": [*page.get("notes", ()), *notes], "title": (f"Training of {name}", f"{name} 的训练")})
