from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import select

from chatwright.errors import ConfigError
from chatwright.feedback import consent
from chatwright.feedback.tables import LabelEvent
from workspaces import KINDS, workspace_of


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(consent.subject_key(tmp_path))) for _ in range(2)]
    consent.subject_key(tmp_path)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*found, consent.subject_key(tmp_path)}) == 1
    assert (tmp_path / consent.KEY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "zz", "00ff"])
def test_a_damaged_key_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / consent.KEY_FILE).write_text(content)
    with pytest.raises(ConfigError, match="subject-key"):
        consent.subject_key(tmp_path)


def test_people_are_split_for_good_and_in_the_share_asked_for() -> None:
    key = b"k" * 32
    sides = [consent.split_of(key, f"user_{n}", 0.2) for n in range(2000)]
    assert sides == [consent.split_of(key, f"user_{n}", 0.2) for n in range(2000)]
    assert 300 < sides.count("held_out") < 500
    assert {consent.split_of(key, f"user_{n}", 0.0) for n in range(50)} == {"train"}
    assert consent.subject_of(key, "user_1") != consent.subject_of(b"x" * 32, "user_1")
    other = [consent.split_of(b"x" * 32, f"user_{n}", 0.2) for n in range(2000)]
    assert other != sides  # without the key nobody can tell on which side somebody is


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_agreed_to_is_written_down(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        with workspace.session() as session:
            consent.record(session, "abc", given=True, scope="account")
            consent.record(session, "abc", given=False, scope="account")
        with workspace.reading() as session:
            events = session.scalars(select(LabelEvent).order_by(LabelEvent.id)).all()
        assert [(e.kind, e.subject, e.data["notice"]) for e in events] == [
            ("consent.given", "abc", consent.NOTICE_VERSION), ("consent.withdrawn", "abc", consent.NOTICE_VERSION),
        ]  # fmt: skip
        assert consent.wipe(workspace)


def test_the_notice_is_there_in_both_languages() -> None:
    assert set(consent.NOTICE) == {"en", "zh-CN"} and all(len(text) > 100 for text in consent.NOTICE.values())
