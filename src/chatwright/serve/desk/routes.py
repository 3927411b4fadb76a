"""The desk's routers as one. Paths with fixed words come before those with names in the same place."""

from fastapi import APIRouter

from chatwright.serve.desk import browse, dashboard, drafting, guidelines, jobs, projects, tasks

router = APIRouter()
for part in (tasks, drafting, projects, guidelines, dashboard, browse, jobs):
    router.include_router(part.router)
