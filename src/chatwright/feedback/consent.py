"""Consent: what people are told, who agreed to it when, and what a withdrawal does.

People stand in the feedback store as `subject`, a digest under the workspace's own key: their texts can be found and erased
by whoever holds the key, and nobody is named.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from chatwright.errors import ConfigError
from chatwright.feedback import store
from chatwright.feedback.events import NewEvent, new_uuid
from chatwright.feedback.intake_tables import IntakeCandidates, IntakeSeen
from chatwright.feedback.near_duplicates import keyed
from chatwright.feedback.tables import Payload
from chatwright.workspace.database import Workspace
from chatwright.workspace.text_search import SEARCHED, purge

KEY_FILE = "subject-key"
NOTICE_VERSION = 2
NOTICE: Mapping[str, str] = {
    "en": (
        "If you agree, what you write from now on, and the answers to it, may be read by the people who label data on this "
        "server and used to train its models. E-mail addresses, telephone, card and identity numbers, and passwords are "
        "replaced first, and so are names and streets where they are easily told; others and further details in your text "
        "are not, so leave out what must stay private. Your name is "
        "not kept with it. You can withdraw at any time: your texts are then erased from the collection and are left out "
        "of later exports; models trained before are marked, but cannot forget."
    ),
    "zh-CN": (
        "如果您同意，您从现在起所写的内容及其回答，可能会由本服务器的标注人员阅读，并用于训练其模型。电子邮箱、电话号码、银行卡号、"
        "证件号码和密码会先被替换，容易识别的姓名和街道地址也会被替换；其他姓名、地址和细节不会被替换，因此请勿写入必须保密的内容。"
        "您的名字不会与内容一同保存。"
        "您可以随时撤回：您的文字将从数据集中删除，之后的导出不再包含它们；此前训练的模型会被标记，但无法遗忘。"
    ),
}


def subject_key(folder: Path) -> bytes:
    """The workspace's key of digests, made at its first use and readable by its owner only. ConfigError when damaged."""
    path = folder / KEY_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError as error:
        raise ConfigError(f"{path}: is damaged; bring it back from a backup, or no text can be found again") from error
    if len(key) != 32:
        raise ConfigError(f"{path}: must hold 64 hex digits; bring it back from a backup")
    return key


def subject_of(key: bytes, owner: str) -> str:
    """A person's digest. `owner`: the user's id, or that of an API key which belongs to nobody."""
    return keyed(key, "subject", owner)


def imported_subjects(key: bytes, user: str) -> tuple[str, str]:
    """Digests of a person whom the `user` field of imported rows names: the one in use, and the unkeyed one of rows that
    an earlier version has imported."""
    name = f"import:{user}"
    return subject_of(key, name), hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def split_of(key: bytes, owner: str, held_out_share: float) -> str:
    """train or held_out: all of a person's texts are on one side, for good."""
    place = int(keyed(key, "split", owner)[:12], 16) / 16**12
    return "held_out" if place < held_out_share else "train"


def record(session: Session, subject: str, *, given: bool, scope: str) -> None:
    """Write down that somebody agreed to the notice, or does so no more. `scope`: account, or the id of an API key."""
    kind = "consent.given" if given else "consent.withdrawn"
    data: dict[str, Any] = {"notice": NOTICE_VERSION, "scope": scope}
    store.append(session, NewEvent(kind=kind, uuid=new_uuid(), actor=subject, subject=subject, data=data))


def kept_texts(session: Session, subject: str) -> int:
    """How many texts of, or derived from, a person are kept."""
    mine = (Payload.subject == subject, Payload.erased_at.is_(None))
    return session.scalar(select(func.count()).select_from(Payload).where(*mine)) or 0


def withdraw(session: Session, subject: str, *, actor: str, before: float = math.inf) -> int:
    """Erase a person's texts (of `before` a time) and what knows them again; returns the number of texts. Afterwards call
    `wipe`."""
    erased = store.erase(session, subject, actor=actor, before=before)
    for table in (IntakeSeen, IntakeCandidates):
        mine = delete(table).where(table.subject == subject)
        session.execute(mine.where(table.at <= before) if math.isfinite(before) else mine)
    return erased


def wipe(workspace: Workspace) -> bool:
    """After a withdrawal: see that no byte of what was erased is left in the database's files. Gives whether that is done
    now; with readers in the way, SQLite's log keeps old pages until its next checkpoint.

    SQLite: `secure_delete` has overwritten the rows; here the search's index is rewritten and the log emptied. PostgreSQL:
    the dead rows are vacuumed; its write-ahead log goes by its own rules (docs/howto/intake.md).
    """
    if not workspace.is_sqlite:
        with workspace.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in ("payloads", "feedback_drafts", SEARCHED):
                connection.execute(text(f"VACUUM {table}"))
        return True
    try:
        purge(workspace)
    except OperationalError:  # another process writes for long
        return False
    raw = workspace.engine.raw_connection()
    try:
        blocked, _, _ = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not blocked
    finally:
        raw.close()
