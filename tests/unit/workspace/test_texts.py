"""Texts that a column does not hold are refused by name, alike on both databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Float, Integer, LargeBinary, String, func, select, text
from sqlalchemy.orm import Mapper

from chatwright.errors import DataError
from chatwright.feedback.importing import ImportSettings, import_rows
from chatwright.feedback.projects import default_project
from chatwright.feedback.tables import LabelRow
from chatwright.serve.tables import metadata
from chatwright.workspace.database import Base
from workspaces import KINDS, workspace_of


def columns() -> list[tuple[Mapper[Any], str, int | None]]:
    metadata()
    mappers = sorted(Base.registry.mappers, key=lambda mapper: mapper.class_.__name__)
    return [
        (mapper, attribute.key, attribute.columns[0].type.length)
        for mapper in mappers for attribute in mapper.column_attrs if isinstance(attribute.columns[0].type, String)
    ]  # fmt: skip


def row(mapper: Mapper[Any]) -> Any:
    samples: dict[type, Any] = {String: "x", Boolean: True, Integer: 1, Float: 1.0, LargeBinary: b"x"}
    return mapper.class_(**{
        attribute.key: next((v for kind, v in samples.items() if isinstance(attribute.columns[0].type, kind)), {})
        for attribute in mapper.column_attrs
    })  # fmt: skip


def test_every_text_column_is_checked(tmp_path: Path) -> None:
    found = columns()
    assert len(found) > 150 and {"labeller", "request_id", "draft_model", "subject"} <= {name for _, name, _ in found}
    with workspace_of("sqlite", tmp_path) as workspace:
        for mapper, name, length in found:
            for bad, said in (("x" * ((length or 0) + 1) if length else "", "at most"), ("a\x00b", "NUL")):
                if not bad or (length and len(bad) > length and said == "NUL"):
                    continue
                broken = row(mapper)
                setattr(broken, name, bad)
                with pytest.raises(DataError, match=f"^{name}: .*{said}"), workspace.session() as session:
                    session.add(broken)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_that_are_no_text_are_refused(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        bad = [("\ud800", "surrogate")] + ([("a\x00b", "NUL")] if kind == "postgresql" else [])
        for value, said in bad:
            with pytest.raises(DataError, match=said), workspace.session() as session:
                session.scalar(select(LabelRow.uuid).where(LabelRow.labeller == value))
        if kind == "postgresql":
            with pytest.raises(DataError, match="too long"), workspace.session() as session:
                session.execute(text("INSERT INTO feedback_labellers VALUES (:name, '[]')"), {"name": "x" * 257})


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_with_a_text_that_is_too_long_costs_only_itself(kind: str, tmp_path: Path) -> None:
    def ranking(n: int, **more: Any) -> dict[str, Any]:
        given = {"prompt": f"{n}?", "completions": ["a", "b"], "ranking": "A>B", "labeller": "ann", "labeller_kind": "human"}
        return {**given, **more}

    long = "中" * 257
    bad = [
        {"labeller": long}, {"labeller": "a\x00b"}, {"labeller": "\ud83d"}, {"language": "x" * 17}, {"split": "x" * 17},
        {"draft_model": long},
        {"guideline": "x" * 65},
    ]  # fmt: skip
    rows = [ranking(n) for n in range(20)] + [ranking(100 + n, **one) for n, one in enumerate(bad)]
    rows += [{"prompt": "d", "completion": "x", "labeller_kind": "human", "labeller": long}, ranking(200)]
    with workspace_of(kind, tmp_path) as workspace:
        with workspace.session() as session:
            project = default_project(session)
        numbered = list(enumerate(rows, 1))
        done = import_rows(workspace, project, lambda: numbered, "f.jsonl", ImportSettings(held_out=0.0), actor="lead")
        with workspace.session() as session:
            kept = session.scalar(select(func.count(LabelRow.uuid)))
    assert any("f.jsonl:21: " in str(error) and "257 characters, at most 256" in str(error) for error in done.bad)
    assert done.labels == kept == len(rows) - len(done.bad) and len(done.bad) >= 4
