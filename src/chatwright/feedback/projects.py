"""Projects and their guidelines. Both change by events; guidelines have versions, and a label names the one it followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chatwright.errors import ConfigError, ConflictError, DataError, MissingError
from chatwright.feedback import store
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.tables import GuidelineRow, ProjectRow
from chatwright.feedback.values import KINDS
from chatwright.workspace.database import new_id

DEFAULT_NAME = "General"
_OVERLAP = {"prompt": 1, "demonstrate": 1, "rate": 2, "rank": 2, "compare": 2, "adjudicate": 1}


@dataclass(frozen=True, kw_only=True)
class Screening:
    """The test before the first task: rankings whose right order is known."""

    required: bool = False
    """Whether nobody gets other tasks before it is passed. Without screening tasks there is nothing to pass."""
    pass_score: float = 0.6
    """Mean Kendall tau-b that passes."""


@dataclass(frozen=True, kw_only=True)
class ProjectSettings:
    """How a project works."""

    kinds: tuple[str, ...] = ("prompt", "demonstrate", "rate", "rank", "compare")
    """Kinds of tasks that are given out."""
    languages: tuple[str, ...] = ("en", "zh-CN")
    """Languages of its tasks and guidelines."""
    overlap: Mapping[str, int] = field(default_factory=dict)
    """Labels per task, by kind; kinds left out: 1 for what is written, 2 for what is judged."""
    allow_unranked: bool = False
    """Whether answers may be left out of a ranking."""
    rate_first: bool = False
    """Whether a ranking comes with ratings, given before it."""
    k: int = 4
    """Answers per ranking task that the server samples."""
    lease_hours: float = 48.0
    """How long a task is kept for somebody who does not come back."""
    screening: Screening = field(default_factory=Screening)
    """The test before the first task."""
    gold_share: float = 0.0
    """Share of tasks, silently, whose right order is known."""
    too_fast_s: float = 2.0
    """Labels made in fewer seconds, or faster than 20 words of the answers a second, are marked; 0: none."""
    merge_method: str = "ranked_pairs"
    """How rankings of a task are merged, see `feedback.merge`."""
    adjudicate_below: float = 0.5
    """Agreement under which a task goes to a lead."""
    wage_per_hour: float = 0.0
    """For costs on the dashboard, in the currency of your choice; 0: no costs."""
    model_draft: bool = True
    """Whether a demonstration may begin with a model's draft, which is marked."""

    def overlap_of(self, kind: str) -> int:
        """Labels that a task of this kind gets."""
        return self.overlap.get(kind, _OVERLAP[kind])

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "kinds": list(self.kinds), "languages": list(self.languages), "overlap": dict(self.overlap)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProjectSettings:
        """From JSON, over the defaults. Raises ConfigError."""
        return cls().changed(values)

    def changed(self, values: Mapping[str, Any]) -> ProjectSettings:
        """With other values for some settings. Raises ConfigError for one that is unknown or out of range."""
        if unknown := sorted(set(values) - {f.name for f in fields(self)}):
            raise ConfigError(f"settings.{unknown[0]}: unknown; settings: {', '.join(f.name for f in fields(self))}")
        given = dict(values)
        for name in ("kinds", "languages"):
            if name in given:
                given[name] = tuple(given[name])
        if "overlap" in given:
            given["overlap"] = {**self.overlap, **given["overlap"]}
        if isinstance(given.get("screening"), Mapping):
            given["screening"] = replace(self.screening, **given["screening"])
        made = replace(self, **given)
        made.check()
        return made

    def check(self) -> None:
        """Raises ConfigError."""
        rules = {
            "kinds": bool(self.kinds) and set(self.kinds) <= set(KINDS),
            "languages": bool(self.languages) and all(isinstance(one, str) and one for one in self.languages),
            "overlap": set(self.overlap) <= set(KINDS) and all(1 <= n <= 100 for n in self.overlap.values()),
            "k": 2 <= self.k <= 9,
            "lease_hours": self.lease_hours > 0,
            "gold_share": 0 <= self.gold_share <= 0.5,
            "too_fast_s": self.too_fast_s >= 0,
            "adjudicate_below": 0 <= self.adjudicate_below <= 1,
            "wage_per_hour": self.wage_per_hour >= 0,
            "screening": -1 <= self.screening.pass_score <= 1,
        }
        for name, holds in rules.items():
            if not holds:
                raise ConfigError(f"settings.{name}: {getattr(self, name)!r} is out of range")


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project."""

    id: str
    name: str
    settings: ProjectSettings
    created_at: float
    archived_at: float | None
    """When it was closed; no tasks are given out since."""


def _project(row: ProjectRow) -> Project:
    settings = ProjectSettings.from_dict(row.settings)
    return Project(id=row.id, name=row.name, settings=settings, created_at=row.created_at, archived_at=row.archived_at)


def projects(session: Session, *, archived: bool = False) -> list[Project]:
    """All projects, the oldest first; with `archived` those that are closed too."""
    query = select(ProjectRow).order_by(ProjectRow.created_at, ProjectRow.id)
    if not archived:
        query = query.where(ProjectRow.archived_at.is_(None))
    return [_project(row) for row in session.scalars(query)]


def project_of(session: Session, project_id: str) -> Project:
    """A project; MissingError."""
    row = session.get(ProjectRow, project_id)
    if row is None:
        raise MissingError("there is no such project")
    return _project(row)


def create_project(
    session: Session, name: str, settings: ProjectSettings | None = None, *, actor: str, project_id: str = ""
) -> Project:
    """Begin a project. Raises ConflictError when its name is taken, ConfigError."""
    name, settings = " ".join(name.split()), settings or ProjectSettings()
    settings.check()
    _check_name(session, name)
    data = {"name": name, "settings": settings.to_dict()}
    made = project_id or new_id("proj")
    store.append(session, NewEvent(kind="project.created", uuid=new_uuid(), actor=actor, project=made, data=data))
    return project_of(session, made)


def _check_name(session: Session, name: str) -> None:
    if not 0 < len(name) <= 128:
        raise DataError("name: must have 1 to 128 characters")
    if session.scalar(select(ProjectRow.id).where(ProjectRow.name == name)):
        raise ConflictError(f"name {name!r} is taken", code="project_exists")


def change_project(
    session: Session, project_id: str, *, actor: str, name: str | None = None, settings: Mapping[str, Any] | None = None,
    archived: bool | None = None,
) -> Project:  # fmt: skip
    """Change a project; what is left out stays. Raises MissingError, ConflictError, ConfigError."""
    row = session.get(ProjectRow, project_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise MissingError("there is no such project")
    data: dict[str, Any] = {}
    if name is not None and (cleaned := " ".join(name.split())) != row.name:
        _check_name(session, cleaned)
        data["name"] = cleaned
    if settings:
        data["settings"] = ProjectSettings.from_dict(row.settings).changed(settings).to_dict()
    if archived is not None and archived != (row.archived_at is not None):
        data["archived"] = archived
    if data:
        store.append(
            session, NewEvent(kind="project.changed", uuid=new_uuid(), actor=actor, project=project_id, data=data)
        )
    return project_of(session, project_id)


def default_project(session: Session) -> Project:
    """The oldest open project; it is made when there is none."""
    open_projects = projects(session)
    if open_projects:
        return open_projects[0]
    name = DEFAULT_NAME
    while session.scalar(select(ProjectRow.id).where(ProjectRow.name == name)):  # one of that name was archived
        name += "'"
    return create_project(session, name, actor="server")


def publish_guideline(session: Session, project_id: str, language: str, text: str, *, actor: str) -> GuidelineRow:
    """A new version of a guideline, which is the one to follow from now on. Raises MissingError, DataError."""
    row = session.get(ProjectRow, project_id, with_for_update=True, populate_existing=True)  # versions count up one by one
    if row is None:
        raise MissingError("there is no such project")
    if not text.strip():
        raise DataError("text: a guideline must say something")
    of_this = (GuidelineRow.project_id == project_id, GuidelineRow.language == language)
    last = session.scalar(select(func.max(GuidelineRow.version)).where(*of_this)) or 0
    made = new_id("guide")
    store.append(
        session,
        NewEvent(
            kind="guideline.published", uuid=new_uuid(), actor=actor, project=project_id, guideline=made,
            data={"language": language, "version": last + 1}, payload={"text": text},
        ),
    )  # fmt: skip
    return session.get_one(GuidelineRow, made)


def guidelines(session: Session, project_id: str) -> list[GuidelineRow]:
    """Every version of a project's guidelines, the newest first."""
    query = select(GuidelineRow).where(GuidelineRow.project_id == project_id)
    return list(session.scalars(query.order_by(GuidelineRow.created_at.desc(), GuidelineRow.version.desc())))


def guideline_for(session: Session, project_id: str, language: str) -> GuidelineRow | None:
    """The version to follow for tasks of a language: the newest in it, else in the same language elsewhere (zh for
    zh-CN), else the newest of all."""
    found = guidelines(session, project_id)
    for fits in (
        lambda row: row.language == language,
        lambda row: row.language.partition("-")[0] == language.partition("-")[0],
        lambda row: True,
    ):
        if chosen := next(filter(fits, found), None):
            return chosen
    return None
