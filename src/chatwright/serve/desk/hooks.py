"""Where traffic leaves the API and the chat for the intake. A request pays for one look at a flag, and where there is
consent for a place in a queue; texts of those who have not agreed go nowhere."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from sqlalchemy.orm import Session

from chatwright.feedback import consent
from chatwright.feedback.intake import Intake, Loader
from chatwright.feedback.steps import Traffic
from chatwright.feedback.tasks import Answer
from chatwright.records import Message
from chatwright.serve.auth import Principal
from chatwright.serve.auth_tables import ApiKey
from chatwright.serve.chat import store as chats
from chatwright.serve.chat import wire
from chatwright.serve.chat.tables import ConversationRow, MessageRow
from chatwright.serve.engine import Delta, Finished, GenerationRequest
from chatwright.serve.services import Services

FILTERED = "content_filter"
"""How an answer ended that moderation took away: what is left of it is nobody's answer."""


def intake_of(shared: Services) -> Intake:
    """The server's intake."""
    found: Intake | None = shared.parts.get("intake")
    if found is None:
        from chatwright.serve.desk.collect import collect  # it needs the intake itself

        made = Intake(shared.workspace, allowed=allowed, collect=partial(collect, shared), reload=_reload)
        found = shared.parts.setdefault("intake", made)
    return found


def allowed(session: Session, traffic: Traffic) -> bool:
    """Whether the owner agrees now."""
    if not traffic.key_id:
        return chats.preferences(session, traffic.owner).training_consent
    key = session.get(ApiKey, traffic.key_id)
    return key is not None and key.training_consent


class Heard:
    """Listens to the answers of one request to the API, if its key allows that."""

    def __init__(self, shared: Services, who: Principal, asked: GenerationRequest, *, model: str, tools: bool) -> None:
        """`model`: name of the model that answers.
        `tools`: the client gave tools; such a conversation is a program's and is not kept."""
        self._shared, self._who, self._asked, self._model, self._tools = shared, who, asked, model, tools
        self._texts: defaultdict[int, list[str]] = defaultdict(list)
        self._ends: dict[int, str] = {}

    def take(self, event: Delta | Finished | None) -> None:
        """Something the engine said."""
        if event is None or not self._who.training_consent:
            return
        if isinstance(event, Delta):
            self._texts[event.index].append(event.text)
        else:
            self._ends[event.index] = event.reason

    def over(self, version: str = "") -> None:
        """The answers are complete: enqueue the request and them. `version`: of the model. Returns at once."""
        intake = intake_of(self._shared)
        if not self._who.training_consent:
            intake.refused("api")
            return
        if self._tools:
            intake.kept_out("api", "usable", "tools")
            return
        answers = tuple(
            Answer(text="".join(self._texts[n]), model=self._model, model_version=version, finish_reason=self._ends[n])
            for n in sorted(self._ends)
            if self._ends[n] != FILTERED
        )
        traffic = Traffic(
            source="api", owner=self._who.id, messages=self._asked.messages, answers=answers, consented=True,
            key_id=self._who.key_id,
        )  # fmt: skip
        intake.hand_over("api", traffic)


def answered(shared: Services, owner: str, message_id: str, *, consented: bool) -> None:
    """An answer of the chat is complete: hand its question over. The texts are read later, where they lie anyway."""
    intake = intake_of(shared)
    if consented:
        intake.hand_over("chat", partial(question_of, owner=owner, message_id=message_id), f"{owner} {message_id}")
    else:
        intake.refused("chat")


def _reload(ref: str) -> Loader:
    owner, _, message_id = ref.partition(" ")
    return partial(question_of, owner=owner, message_id=message_id)


def question_of(session: Session, owner: str, message_id: str) -> Traffic | None:
    """The conversation up to the question of an answer; None when it was deleted."""
    answer = session.get(MessageRow, message_id)
    row = session.get(ConversationRow, answer.conversation_id) if answer is not None else None
    if answer is None or row is None or row.owner != owner or answer.parent_id is None:
        return None
    return traffic_of(row, chats.path_to(chats.rows_of(session, row.id), answer.parent_id))


def traffic_of(row: ConversationRow, path: list[MessageRow], answers: tuple[Answer, ...] = ()) -> Traffic:
    """A branch of a conversation as traffic of somebody who agreed."""
    system = (Message(role="system", content=row.system),) if row.system.strip() else ()
    turns = tuple(Message(role=m.role, content=m.content) for m in path)  # type: ignore[arg-type]
    return Traffic(source="chat", owner=row.owner, messages=(*system, *turns), answers=answers, consented=True)


def set_consent(shared: Services, session: Session, user_id: str, given: bool) -> None:
    """Keep whether a user agrees, and write a change down."""
    if chats.preferences(session, user_id).training_consent == given:
        return  # since when somebody agrees must not move
    chats.set_preferences(session, user_id, wire.Preferences(training_consent=given))
    note_consent(shared, session, user_id, given, "account")


def set_key_consent(shared: Services, session: Session, key: ApiKey, given: bool) -> None:
    """Keep whether what comes with a key may be taken, and write a change down."""
    if key.training_consent != given:
        key.training_consent = given
        note_consent(shared, session, key.user_id or key.id, given, key.id)


def note_consent(shared: Services, session: Session, owner: str, given: bool, scope: str) -> None:
    """Write down that somebody agreed, or does so no more."""
    consent.record(session, consent.subject_of(intake_of(shared).key, owner), given=given, scope=scope)
