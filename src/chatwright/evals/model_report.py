"""The page of the run that made a registered model, from the files that its stages left."""

from __future__ import annotations

from pathlib import Path

from chatwright.errors import DataError
from chatwright.evals.commands import page_of
from chatwright.evals.report import html


def model_page(name: str, model: Path) -> str:
    """The page as HTML. `model` is the folder `RUN/final`; the runs beside RUN are the stages before it. DataError when no
    stage left its figures."""
    chain = model.parent.parent
    runs = sorted(file.parent for file in chain.glob("*/metrics.jsonl"))
    if model.name != "final" or model.parent not in runs:
        raise DataError(f"model {name}: the run that made it left no figures, so there is no report")
    if (chain / "page.json").is_file():
        return html(page_of(chain))
    page = page_of(model.parent)
    for run in runs:
        stage = page_of(run)
        page["curves"] = {**stage["curves"], **page["curves"]}
        page["card"] = page["card"] or stage["card"]
    return html({**page, "title": (f"Training of {name}", f"{name} 的训练")})
