"""Consent, withdrawal and the intake's funnel over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from chatwright.errors import MissingError
from chatwright.feedback import consent, funnel, withdrawals
from chatwright.feedback.intake_tables import IntakeSeen
from chatwright.feedback.purge import purge
from chatwright.serve import audit
from chatwright.serve.auth import Principal, require_user
from chatwright.serve.auth_tables import ApiKey, User
from chatwright.serve.chat.tables import ChatPreferences
from chatwright.serve.desk import withdrawal
from chatwright.serve.desk.collect import collect
from chatwright.serve.desk.hooks import intake_of, set_consent, set_key_consent
from chatwright.serve.desk.wire_intake import (
    Collected,
    ConsentChange,
    ConsentInfo,
    FunnelLine,
    FunnelStep,
    IntakeInfo,
    KeyConsent,
    Language,
    NewWithdrawal,
    Withdrawal,
)
from chatwright.serve.openai.errors import APIError, responses
from chatwright.serve.services import Services, services

router = APIRouter(prefix="/api", tags=["desk"], responses=responses(400, 401, 403, 404))
Member = Annotated[Principal, Depends(require_user())]
Lead = Annotated[Principal, Depends(require_user("lead"))]


@router.get("/consent")
def consent_of(request: Request, who: Member, language: Language = "en") -> ConsentInfo:
    """What one has agreed to, and the notice to show before."""
    shared = services(request)
    with shared.workspace.reading() as session:
        return _info(shared, session, who, language)


@router.put("/consent")
def change_consent(new: ConsentChange, request: Request, who: Member, language: Language = "en") -> ConsentInfo:
    """Agree that what comes from now on is kept as training data, or no more. What was kept stays until it is withdrawn."""
    shared = services(request)
    with shared.workspace.session() as session:
        if new.key:
            key = next((one for one in _keys(session, who) if one.id == new.key), None)
            if key is None:
                raise MissingError("there is no such key")
            set_key_consent(shared, session, key, new.training_consent)
        else:
            set_consent(shared, session, who.id, new.training_consent)
        audit.record(session, request, who.id, "consent.change", new.key or who.id, given=new.training_consent)
        session.flush()
        return _info(shared, session, who, language)


def _keys(session: Session, who: Principal) -> list[ApiKey]:
    """One's own keys; for administrators also those that belong to nobody."""
    own = ApiKey.user_id == who.id
    mine = or_(own, ApiKey.user_id.is_(None)) if who.role == "admin" else own
    return list(session.scalars(select(ApiKey).where(mine, ApiKey.revoked_at.is_(None)).order_by(ApiKey.created_at)))


def _info(shared: Services, session: Session, who: Principal, language: Language) -> ConsentInfo:
    row = session.get(ChatPreferences, who.id)
    keys = [
        KeyConsent(
            id=key.id, name=key.name, prefix=key.prefix, training_consent=key.training_consent, of_server=key.user_id is None
        )
        for key in _keys(session, who)
    ]  # fmt: skip
    intake = intake_of(shared)
    subjects = withdrawal.subjects_of(intake.key, who.id)
    at = withdrawals.last_asked(shared.workspace, subjects[:1])
    remains = withdrawal.remaining(shared.workspace, session, who.id, subjects, names=False) if at else []
    return ConsentInfo(
        training_consent=row is not None and row.training_consent, since=row.changed_at if row else None, keys=keys,
        notice=consent.NOTICE[language], notice_version=consent.NOTICE_VERSION,
        kept_texts=sum(consent.kept_texts(session, subject) for subject in subjects), withdrawn_at=at, remains=remains,
    )  # fmt: skip


@router.post("/desk/withdrawals")
def withdraw(new: NewWithdrawal, request: Request, who: Member) -> Withdrawal:
    """Erase what was kept of an account: one's own, or any as an administrator. Consent ends with it.

    Deleted with the texts: exports in the workspace that hold one, as a whole; the texts in run folders that were made from
    them; texts in the log of flagged requests and in battles of the arena. Jobs that train on such an export end. The answer
    names what remains."""
    shared = services(request)
    of_others = new.user not in ("", who.id) or new.key or new.imported_user
    if of_others and who.role != "admin":
        raise APIError(
            403, "user, key, imported_user: only administrators erase what is not their own", code="insufficient_role"
        )  # fmt: skip
    if new.imported_user and (new.user or new.key):
        raise APIError(400, "imported_user: is a person without an account; leave user and key out", param="imported_user")
    intake = intake_of(shared)
    owner = "" if new.imported_user else new.key or new.user or who.id
    if owner:
        with shared.workspace.session() as session:
            _end_consent(shared, session, new, owner)
        intake.idle()  # what waits was handed over before, and is refused now
        subjects = withdrawal.subjects_of(intake.key, owner)
    else:
        subjects = consent.imported_subjects(intake.key, new.imported_user)
    withdrawals.note(shared.workspace, subjects)
    with shared.workspace.session() as session:
        erased = withdrawals.erase(session, subjects, actor=who.id)
        if owner:
            withdrawal.erase_traces(session, owner)
        audit.record(session, request, who.id, "content.withdraw", owner or subjects[0], erased=erased)
    wiped = intake.wipe()
    purge(shared.workspace)
    with shared.workspace.reading() as session:
        left = withdrawals.remains(shared.workspace, session, subjects)
        remains = withdrawal.remaining(shared.workspace, session, owner, subjects, names=who.role == "admin")
    return Withdrawal(erased=erased, exports=len(left.exports), models=len(left.models), remains=remains, wiped=wiped)


def _end_consent(shared: Services, session: Session, new: NewWithdrawal, owner: str) -> None:
    if new.key:
        key = session.scalar(select(ApiKey).where(ApiKey.id == new.key, ApiKey.user_id.is_(None)))
        if key is None or new.user:
            raise MissingError("there is no such key without a user; give the user instead")
        set_key_consent(shared, session, key, False)
        return
    if session.get(User, owner) is None:
        raise MissingError("there is no such user")
    set_consent(shared, session, owner, False)
    for key in session.scalars(select(ApiKey).where(ApiKey.user_id == owner)):
        set_key_consent(shared, session, key, False)


@router.get("/desk/intake")
def intake(request: Request, who: Lead, days: Annotated[int, Query(ge=1, le=366)] = 30) -> IntakeInfo:
    """What became of the traffic, step by step."""
    shared = services(request)
    taking = intake_of(shared)
    taking.flush()
    with shared.workspace.reading() as session:
        lines = funnel.lines(session, days)
        agreed = session.scalar(select(func.count()).select_from(ChatPreferences).where(ChatPreferences.training_consent))
        keys = session.scalar(select(func.count()).select_from(ApiKey).where(ApiKey.training_consent))
        kept = session.scalar(select(func.count()).select_from(IntakeSeen).where(IntakeSeen.kind == "conversation"))
    return IntakeInfo(
        steps=[
            FunnelStep(step=step, keeps_out=step not in funnel.PASSED, count=sum(reasons.values()), reasons=reasons)
            for step, reasons in funnel.totals(lines).items()
        ],
        lines=[FunnelLine(**{name: getattr(line, name) for name in FunnelLine.model_fields}) for line in lines],
        days=days, waiting=taking.waiting, accounts_agreed=agreed or 0, keys_agreed=keys or 0, prompts=kept or 0,
        per_person=taking.limits.per_person, held_out_share=taking.limits.held_out_share,
    )  # fmt: skip


@router.post("/desk/intake/collect")
def collect_now(request: Request, who: Lead) -> Collected:
    """Make tasks of the chat's answers and the arena's votes now, also of those that came a moment ago."""
    made = collect(services(request), idle_s=0.0)
    intake_of(services(request)).flush()
    return Collected(tasks=made)
