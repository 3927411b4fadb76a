"""The moderator of a server: its classifier, its policy, and where it writes what it flagged."""

from __future__ import annotations

from chatwright.errors import ConfigError
from chatwright.serve.engine import Engine
from chatwright.serve.moderation.classifier import Classifier
from chatwright.serve.moderation.filters import Decision, FilterConfig, Log, Moderator
from chatwright.serve.moderation.tables import ModerationEvent
from chatwright.serve.settings import ServeConfig
from chatwright.workspace.database import Workspace


def open_moderator(cfg: ServeConfig, workspace: Workspace) -> Moderator | None:
    """The moderator that the settings ask for; None for none. Raises ModelError, ConfigError."""
    policy = FilterConfig(
        input=cfg.moderation_input, output=cfg.moderation_output, style=cfg.refusal, keep_text=cfg.moderation_keep_text
    )
    if not cfg.moderation:
        if policy != FilterConfig():
            raise ConfigError(
                "moderation_input, moderation_output, refusal, moderation_keep_text: need --moderation DIR for an effect, "
                "a folder of `chatwright moderation train`"
            )
        return None
    return Moderator(Classifier.load(cfg.moderation), policy, log=log_to(workspace))


def guarded(engine: Engine, moderator: Moderator | None) -> Engine:
    """The engine behind the filters, where there are any; the registry puts every engine through here."""
    return engine if moderator is None else moderator.guard(engine)


def log_to(workspace: Workspace) -> Log:
    """Writes decisions into the table `moderation_events`."""

    def write(decision: Decision, text: str) -> None:
        with workspace.session() as session:
            session.add(
                ModerationEvent(
                    owner=decision.owner, request_id=decision.request_id, model=decision.model,
                    direction=decision.direction, category=decision.category, score=decision.score, action=decision.action,
                    text_hash=decision.text_hash, text=text.replace("\x00", "") or None,
                )  # fmt: skip
            )

    return write
