"""The desk's routers as one. Paths with fixed words come before those with names in the same place."""

from fastapi import APIRouter

from chatwright.serve.desk import (
    browse,
    dashboard,
    data,
    drafting,
    exports,
    guidelines,
    intake,
    jobs,
    models,
    people,
    projects,
    tasks,
)

router = APIRouter()
for part in (tasks, drafting, projects, guidelines, dashboard, browse, intake, data, exports, jobs, models, people):
    router.include_router(part.router)
