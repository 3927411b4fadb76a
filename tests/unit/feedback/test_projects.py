from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatwright.errors import ConfigError, ConflictError, DataError, MissingError
from chatwright.feedback import projects
from chatwright.feedback.projects import ProjectSettings
from chatwright.workspace.database import Workspace
from workspaces import workspace_of


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with workspace_of("sqlite", tmp_path) as opened:
        yield opened


def test_settings_survive_the_database_and_change_one_by_one(workspace: Workspace) -> None:
    given = {"kinds": ["rank"], "overlap": {"rank": 3}, "screening": {"required": True}, "wage_per_hour": 12.5}
    with workspace.session() as session:
        made = projects.create_project(session, "  Ranking   desk ", ProjectSettings.from_dict(given), actor="lead")
        assert made.name == "Ranking desk" and made.settings.overlap_of("rank") == 3
        assert made.settings.overlap_of("demonstrate") == 1
    with workspace.session() as session:
        some = {"overlap": {"compare": 5}, "screening": {"pass_score": 0.2}}
        changed = projects.change_project(session, made.id, actor="lead", name="Desk", settings=some)
    with workspace.reading() as session:
        kept = projects.project_of(session, made.id)
        assert kept == changed and kept.name == "Desk"
        assert dict(kept.settings.overlap) == {"rank": 3, "compare": 5}
        assert kept.settings.screening == projects.Screening(required=True, pass_score=0.2)
        assert ProjectSettings.from_dict(kept.settings.to_dict()) == kept.settings


BAD: list[dict[str, Any]] = [
    {"kinds": []}, {"kinds": ["dance"]}, {"languages": []}, {"overlap": {"rank": 0}}, {"overlap": {"dance": 1}}, {"k": 1},
    {"k": 10}, {"lease_hours": 0}, {"gold_share": 0.9}, {"too_fast_s": -1}, {"adjudicate_below": 2}, {"wage_per_hour": -1},
    {"screening": {"pass_score": 2}}, {"colour": "red"},
]  # fmt: skip


@pytest.mark.parametrize("settings", BAD, ids=str)
def test_bad_settings_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"settings.{next(iter(settings))}"):
        ProjectSettings.from_dict(settings)


def test_names_are_unique_and_archived_projects_are_put_away(workspace: Workspace) -> None:
    with workspace.session() as session:
        first = projects.default_project(session)
        assert projects.default_project(session) == first
        with pytest.raises(ConflictError, match="taken"):
            projects.create_project(session, first.name, actor="lead")
        for bad in (" ", "x" * 129):
            with pytest.raises(DataError):
                projects.create_project(session, bad, actor="lead")
        projects.change_project(session, first.id, actor="lead", archived=True)
        second = projects.default_project(session)
        assert second.id != first.id and projects.projects(session) == [second]
        assert [one.id for one in projects.projects(session, archived=True)] == [first.id, second.id]
        assert projects.change_project(session, first.id, actor="lead", archived=False).archived_at is None
        for act in (projects.project_of, lambda s, p: projects.change_project(s, p, actor="lead")):
            with pytest.raises(MissingError):
                act(session, "nowhere")


def test_guidelines_have_versions_and_suit_the_language(workspace: Workspace) -> None:
    with workspace.session() as session:
        desk = projects.default_project(session).id
        assert projects.guideline_for(session, desk, "en") is None
        made = {
            text: projects.publish_guideline(session, desk, language, text, actor="lead").id
            for language, text in (("en", "one"), ("en", "two"), ("zh-CN", "三"))
        }
        kept = {row.text: (row.language, row.version) for row in projects.guidelines(session, desk)}
        assert kept == {"one": ("en", 1), "two": ("en", 2), "三": ("zh-CN", 1)}
        for language, text in (("en", "two"), ("zh-CN", "三"), ("zh-TW", "三"), ("fr", "三")):
            found = projects.guideline_for(session, desk, language)
            assert found is not None and found.id == made[text], language
        with pytest.raises(DataError):
            projects.publish_guideline(session, desk, "en", " \n", actor="lead")
        with pytest.raises(MissingError):
            projects.publish_guideline(session, "nowhere", "en", "x", actor="lead")
