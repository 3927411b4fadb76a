from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from chatwright.errors import DataError, UsageError
from chatwright.serve.tables import metadata
from chatwright.workspace import migrations
from chatwright.workspace.append_only import append_only
from chatwright.workspace.commands import UpgradeConfig, upgrade
from chatwright.workspace.database import DATABASE_FILE, Base, Workspace
from chatwright.workspace.migrations import authoring, schema
from filled_database import Content, content, fill
from workspaces import KINDS, empty_database, workspace_of

EARLIER = Path(__file__).parent / "earlier_schemas"
# A revision is never edited after it has landed.
FIXED = {"0001_initial_tables.py": "f1a763bc16068d5cf8109acf9cea9640f06341705d56498dd463ec0015af9bf8"}
# Columns whose values a revision changes on purpose: (table, column).
CHANGED_ON_PURPOSE: set[tuple[str, str]] = {("shares", "token")}  # kept as its hash
# Tables whose primary key a revision changes: rows are compared in the order of this column.
ORDERED_BY = {"shares": "conversation_id"}

REBUILDS = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = {revision!r}, {last!r}


def upgrade():
    for table, column, length in (("users", "role", 32), ("messages", "role", 32), ("label_events", "kind", 64)):
        with op.batch_alter_table(table) as batch:
            batch.alter_column(column, type_=sa.String(length), existing_type=sa.String(), existing_nullable=False)
"""
WIDER = {
    ("users", "column role VARCHAR(16) NOT NULL"): "column role VARCHAR(32) NOT NULL",
    ("messages", "column role VARCHAR(16) NOT NULL"): "column role VARCHAR(32) NOT NULL",
    ("label_events", "column kind VARCHAR(32) NOT NULL"): "column kind VARCHAR(64) NOT NULL",
}


@contextmanager
def at_revision(kind: str, folder: Path, revision: str) -> Iterator[Workspace]:
    """A workspace whose database is at `revision`, with rows in every table."""
    from alembic import command

    with empty_database(kind) as url, Workspace.open(folder / "workspace", url) as workspace:
        with workspace.engine.begin() as connection:
            command.upgrade(migrations.alembic_config(connection), revision)
            fill(connection)
        yield workspace


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Adds a revision that exists in this test only."""
    versions = tmp_path / "versions"
    shutil.copytree(schema.VERSIONS, versions, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(schema, "VERSIONS", versions)

    def add(body: str, changed: dict[tuple[str, str], str]) -> str:
        last = migrations.head()
        revision = f"{int(last) + 1:04d}"
        tables = schema.expected(last)
        for (table, before), after in changed.items():
            tables[table][tables[table].index(before)] = after
        (versions / f"{revision}.json").write_text(json.dumps(tables))
        (versions / f"{revision}_in_this_test.py").write_text(body.format(revision=revision, last=last))
        return revision

    return add


def rows_of(workspace: Workspace) -> Content:
    with workspace.engine.connect() as connection:
        return content(connection)


def assert_nothing_lost(before: Content, after: Content) -> None:
    for table, rows in before.items():
        assert len(after[table]) == len(rows), table
        by = ORDERED_BY.get(table)
        pairs = zip(*(sorted(one, key=lambda row: row[by]) if by else one for one in (rows, after[table])), strict=True)
        for old, new in pairs:
            for column, value in old.items():
                if (table, column) not in CHANGED_ON_PURPOSE:
                    assert new[column] == value, (table, column)


def test_the_first_revision_is_what_it_was() -> None:
    for name, digest in FIXED.items():
        assert hashlib.sha256((schema.VERSIONS / name).read_bytes()).hexdigest() == digest, f"{name}: add a revision instead"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("revision", schema.revisions())
def test_each_revision_leaves_the_tables_of_its_description(revision: str, kind: str, tmp_path: Path) -> None:
    with at_revision(kind, tmp_path, revision) as workspace, workspace.engine.connect() as connection:
        assert schema.describe(connection) == schema.expected(revision)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_description_is_what_the_code_declares(kind: str, tmp_path: Path) -> None:
    with empty_database(kind) as url, Workspace.open(tmp_path, url) as workspace, workspace.engine.begin() as connection:
        metadata().create_all(connection)
        assert schema.describe(connection) == schema.expected(migrations.head())
    with workspace_of(kind, tmp_path) as workspace:
        assert authoring.differences(workspace, metadata()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("revision", schema.revisions())
def test_an_upgrade_keeps_every_row(
    revision: str, kind: str, tmp_path: Path, next_revision: Callable[..., str]
) -> None:  # fmt: skip
    head = next_revision(REBUILDS, WIDER)
    with at_revision(kind, tmp_path, revision) as workspace:
        before = rows_of(workspace)
        assert all(before.values())
        copy = migrations.upgrade(workspace)
        assert copy is not None and copy.stat().st_size > 0
        assert_nothing_lost(before, rows_of(workspace))
        assert migrations.current(workspace) == head
        with workspace.engine.connect() as connection:
            assert schema.describe(connection) == schema.expected(head)
        for change in ("UPDATE label_events SET actor = 'x'", "DELETE FROM label_events"):
            with pytest.raises(DBAPIError, match="append-only"), workspace.session() as session:
                session.execute(text(change))
        with pytest.raises(DBAPIError), workspace.session() as session:  # foreign keys are on again
            session.execute(text("UPDATE api_keys SET user_id = 'nobody'"))


def test_links_made_before_0005_work_for_thirty_days_and_downloads_are_known(tmp_path: Path) -> None:
    with at_revision("sqlite", tmp_path, "0004") as workspace:
        tokens = {row["conversation_id"]: row["token"] for row in rows_of(workspace)["shares"]}
        (export, *_) = (row["id"] for row in rows_of(workspace)["feedback_exports"])
        with workspace.session() as session:
            columns = "at, actor, action, target, detail, address"
            event = f"INSERT INTO audit_events ({columns}) VALUES (5.0, 'lea', :what, :id, :of, '')"
            for action in ("export.downloaded", "export.made"):
                session.execute(text(event), {"what": action, "id": export, "of": '{"file": "train/prompts"}'})
        migrations.upgrade(workspace)
        after = rows_of(workspace)
        for row in after["shares"]:
            assert row["token_hash"] == hashlib.sha256(tokens[row["conversation_id"]].encode()).hexdigest()
            assert abs(row["expires_at"] - time.time() - 30 * 86_400) < 3600
        (copy,) = after["feedback_export_copies"]
        of_export = {"export_id": export, "kind": "download", "place": "train/prompts", "actor": "lea", "at": 5.0}
        assert {name: copy[name] for name in of_export} == of_export


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "ending",
    [
        'raise RuntimeError("half-way")',
        'op.drop_table("audit_events")',
        """op.execute("UPDATE shares SET conversation_id = 'x'")""",
    ],
)
def test_an_upgrade_that_fails_changes_nothing(
    ending: str, kind: str, tmp_path: Path, next_revision: Callable[..., str]
) -> None:  # fmt: skip
    next_revision(f"{REBUILDS}    op.execute(\"DELETE FROM usage\")\n    {ending}\n", WIDER)
    with at_revision(kind, tmp_path, last := schema.revisions()[-2]) as workspace:
        before = rows_of(workspace)
        with pytest.raises((RuntimeError, DataError, DBAPIError)):
            migrations.upgrade(workspace)
        assert rows_of(workspace) == before
        assert migrations.current(workspace) == last
        assert migrations.deviations(workspace) == []


def earlier(kind: str, commit: str, folder: Path, url: str) -> Workspace:
    """A workspace with the tables that the code of a commit has made, and rows in each."""
    script = (EARLIER / f"{commit}.{kind}.sql").read_text(encoding="utf-8")
    folder.mkdir()
    if kind == "sqlite":
        connection = sqlite3.connect(folder / DATABASE_FILE)
        connection.executescript(script)
        connection.close()
    else:
        engine = create_engine(url)
        with engine.begin() as opened:
            opened.exec_driver_sql(script)
        engine.dispose()
    workspace = Workspace.open(folder, url)
    with workspace.engine.begin() as opened:
        fill(opened)
        if commit == "ff7d700":
            opened.execute(text("UPDATE users SET oidc_subject = NULL"))
    return workspace


@pytest.mark.parametrize(
    ("kind", "commit", "said"),
    [
        ("sqlite", "ff7d700", "missing tables: feedback_drafts, .*api_keys lacks column training_consent.*table messages"),
        ("sqlite", "3d9624a", "missing tables: feedback_drafts, .*payloads. table api_keys lacks column training_consent"),
        ("sqlite", "9d71c34", "missing tables: intake_candidates, intake_counts, intake_seen. table api_keys"),
        ("postgresql", "3d9624a", "missing tables: feedback_drafts, .*api_keys lacks column training_consent"),
    ],
)
def test_a_workspace_of_an_earlier_commit_is_refused_and_mended(
    kind: str, commit: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    folder = tmp_path / "w"
    with empty_database(kind) as url, earlier(kind, commit, folder, url) as workspace:
        before = rows_of(workspace)
        with pytest.raises(UsageError, match=f"{said}.*workspace upgrade"):
            migrations.prepare(workspace)
        assert rows_of(workspace) == before
        upgrade(UpgradeConfig(workspace=str(folder), database=url))
        assert "missing tables" in capsys.readouterr().out
        assert rows_of(workspace) == before
        upgrade(UpgradeConfig(workspace=str(folder), database=url, yes=True))
        assert str(folder / migrations.BACKUPS) in capsys.readouterr().out
        migrations.prepare(workspace)
        after = rows_of(workspace)
        before["users"] = [{k: v for k, v in row.items() if k != "oidc_subject"} for row in before["users"]]
        assert_nothing_lost(before, after)
        assert [row["training_consent"] for row in after["api_keys"]] == [False] * len(after["api_keys"])
        with workspace.session() as session:  # numbers go on
            columns = "at, actor, action, target, detail, address"
            session.execute(text(f"INSERT INTO audit_events ({columns}) VALUES (1, '', '', '', '{{}}', '')"))


def test_what_cannot_be_mended_without_loss_is_refused(tmp_path: Path) -> None:
    with earlier("sqlite", "ff7d700", tmp_path / "w", "") as workspace:
        with workspace.session() as session:
            session.execute(text("UPDATE users SET oidc_subject = 'ada' WHERE name LIKE '1%'"))
        before = rows_of(workspace)
        with pytest.raises(UsageError, match=r"table users: column oidc_subject.*lost"):
            migrations.upgrade(workspace)
        assert rows_of(workspace) == before
        with workspace.session() as session:
            session.execute(text("UPDATE users SET oidc_subject = NULL"))
            session.execute(text("DROP TABLE message_tokens"))
        with pytest.raises(UsageError, match=r"are missing that.* had: message_tokens\..*backup"):
            migrations.upgrade(workspace)


def test_what_an_operator_added_is_no_deviation(tmp_path: Path) -> None:
    with workspace_of("sqlite", tmp_path) as workspace:
        with workspace.session() as session:
            session.execute(text("CREATE TABLE theirs (x)"))
            session.execute(text("CREATE INDEX theirs_too ON users (role)"))
            session.execute(text("ALTER TABLE users ADD COLUMN note TEXT"))
        migrations.prepare(workspace)
        with workspace.session() as session:
            session.execute(text("DROP TRIGGER label_events_no_update"))
        with pytest.raises(UsageError, match="table label_events lacks append-only"):
            migrations.prepare(workspace)


def test_no_backup_no_upgrade_unless_asked(
    tmp_path: Path, next_revision: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    head = next_revision(REBUILDS, WIDER)
    with at_revision("postgresql", tmp_path, schema.revisions()[-2]) as workspace:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(UsageError, match=r"nothing was changed: pg_dump: is not installed.*--no-backup"):
            migrations.upgrade(workspace)
        assert migrations.current(workspace) != head
        migrations.upgrade(workspace, backup=False)
        assert migrations.current(workspace) == head


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_database_is_refused(kind: str, tmp_path: Path) -> None:
    with workspace_of(kind, tmp_path) as workspace:
        for change, said in (
            ("INSERT INTO alembic_version VALUES ('0000')", "2 revisions"),
            ("DELETE FROM alembic_version", "0 revisions"),
            ("DROP TABLE alembic_version", "but no revision"),
        ):
            with workspace.session() as session:
                session.execute(text(change))
            with pytest.raises(DataError, match=said):
                migrations.prepare(workspace)
            with pytest.raises(DataError, match=said):
                migrations.upgrade(workspace)


def test_a_new_revision_is_added_never_written_anew(tmp_path: Path, next_revision: Callable[..., str]) -> None:
    import sqlalchemy as sa

    declared = sa.MetaData(naming_convention=Base.metadata.naming_convention)
    for table in metadata().tables.values():
        table.to_metadata(declared)
    columns = (sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text, nullable=False))
    theirs = sa.Table("diary", declared, *columns)
    append_only(theirs)
    declared.tables["users"].append_column(sa.Column("note", sa.String(7)))
    last = migrations.head()
    kept = {path.name: path.read_bytes() for path in schema.VERSIONS.iterdir()}
    written = authoring.add_revision(declared, "A diary, and notes")
    revision = f"{int(last) + 1:04d}"
    assert [path.name for path in written] == [f"{revision}.json", f"{revision}_a_diary_and_notes.py"]
    assert all((schema.VERSIONS / name).read_bytes() == data for name, data in kept.items())
    with at_revision("sqlite", tmp_path, last) as workspace:
        before = rows_of(workspace)
        migrations.upgrade(workspace)
        assert migrations.current(workspace) == revision
        assert_nothing_lost(before, rows_of(workspace))
        with pytest.raises(DBAPIError, match="append-only"), workspace.session() as session:
            session.execute(text("INSERT INTO diary VALUES (1, 'x')"))
            session.execute(text("DELETE FROM diary"))
    with pytest.raises(UsageError, match="title"):
        authoring.add_revision(declared, " ")


def test_absolute_paths_become_relative_to_the_workspace(tmp_path: Path) -> None:
    with at_revision("sqlite", tmp_path, "0001") as workspace:
        folder = workspace.folder
        digests = {}
        for place in ("models/a/6-ppo/final", "exports/abc"):
            (folder / place).mkdir(parents=True)
            (folder / place / "MANIFEST.json").write_text(place)
            digests[place] = hashlib.sha256(place.encode()).hexdigest()
        model = digests["models/a/6-ppo/final"]
        paths = [f"{folder.absolute()}/models/a/6-ppo/final", "/moved/from/models/a/6-ppo/final", "/other/models/b"]
        with workspace.session() as session:
            ids = session.scalars(text("SELECT id FROM models ORDER BY id")).all()
            for identity, path in zip(ids, paths, strict=True):
                values = {"path": path, "base": paths[0], "manifest": model, "id": identity}
                change = "UPDATE models SET path = :path, base = :base, manifest = :manifest WHERE id = :id"
                session.execute(text(change), values)
            job = session.scalar(text("SELECT MIN(id) FROM jobs"))
            plan = json.dumps({"export": paths[1], "base": "smollm2", "parent": None, "against": paths[0]})
            change = "UPDATE job_effects SET name = 'planned', data = :data WHERE job_id = :id"
            session.execute(text(change), {"data": plan, "id": job})
        before = rows_of(workspace)
        migrations.upgrade(workspace)
        after = rows_of(workspace)
        here = "models/a/6-ppo/final"
        assert [row["path"] for row in after["models"]] == [here, here, "/other/models/b"]
        assert {row["base"] for row in after["models"]} == {here}
        (planned,) = (row["data"] for row in after["job_effects"] if row["name"] == "planned")
        assert planned == {**json.loads(plan), "export": here, "against": here}
        for table in before.keys() - {"models", "job_effects", "shares"}:  # 0005 hashes the tokens of shares
            kept = [{name: row[name] for name in old} for row, old in zip(after[table], before[table], strict=True)]
            assert kept == before[table]  # later revisions add columns
