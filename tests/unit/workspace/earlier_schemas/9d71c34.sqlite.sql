BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE api_keys (
	id VARCHAR(64) NOT NULL, 
	user_id VARCHAR(64), 
	name VARCHAR(128) NOT NULL, 
	prefix VARCHAR(16) NOT NULL, 
	key_hash VARCHAR(64) NOT NULL, 
	scopes JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT, 
	revoked_at FLOAT, 
	requests_per_minute INTEGER NOT NULL, 
	tokens_per_minute INTEGER NOT NULL, 
	tokens_per_day BIGINT NOT NULL, 
	tokens_total BIGINT NOT NULL, 
	CONSTRAINT pk_api_keys PRIMARY KEY (id), 
	CONSTRAINT fk_api_keys_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_api_keys_key_hash UNIQUE (key_hash)
);
CREATE TABLE arena_battles (
	id VARCHAR(64) NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	prompt TEXT NOT NULL, 
	entrants JSON NOT NULL, 
	answer_a TEXT NOT NULL, 
	answer_b TEXT NOT NULL, 
	status_a VARCHAR(16) NOT NULL, 
	status_b VARCHAR(16) NOT NULL, 
	finish_a VARCHAR(16) NOT NULL, 
	finish_b VARCHAR(16) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_arena_battles PRIMARY KEY (id), 
	CONSTRAINT fk_arena_battles_owner_users FOREIGN KEY(owner) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE arena_entrants (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	model VARCHAR(256) NOT NULL, 
	system TEXT NOT NULL, 
	settings JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_arena_entrants PRIMARY KEY (id), 
	CONSTRAINT uq_arena_entrants_name UNIQUE (name)
);
CREATE TABLE arena_votes (
	battle_id VARCHAR(64) NOT NULL, 
	user_id VARCHAR(64) NOT NULL, 
	question VARCHAR(64) NOT NULL, 
	vote VARCHAR(16) NOT NULL, 
	void VARCHAR(32) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_arena_votes PRIMARY KEY (battle_id), 
	CONSTRAINT fk_arena_votes_battle_id_arena_battles FOREIGN KEY(battle_id) REFERENCES arena_battles (id) ON DELETE CASCADE, 
	CONSTRAINT fk_arena_votes_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE, 
	CONSTRAINT uq_arena_votes_user_question UNIQUE (user_id, question)
);
CREATE TABLE audit_events (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	actor VARCHAR(64) NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	target TEXT NOT NULL, 
	detail JSON NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_audit_events PRIMARY KEY (id)
);
CREATE TABLE chat_preferences (
	user_id VARCHAR(64) NOT NULL, 
	training_consent BOOLEAN NOT NULL, 
	changed_at FLOAT NOT NULL, 
	CONSTRAINT pk_chat_preferences PRIMARY KEY (user_id), 
	CONSTRAINT fk_chat_preferences_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE conversations (
	id VARCHAR(64) NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	title VARCHAR(200) NOT NULL, 
	system TEXT NOT NULL, 
	model VARCHAR(256) NOT NULL, 
	settings JSON NOT NULL, 
	active_leaf VARCHAR(64), 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	CONSTRAINT pk_conversations PRIMARY KEY (id), 
	CONSTRAINT fk_conversations_owner_users FOREIGN KEY(owner) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE feedback_drafts (
	task_id VARCHAR(64) NOT NULL, 
	labeller VARCHAR(256) NOT NULL, 
	revision INTEGER NOT NULL, 
	content JSON NOT NULL, 
	updated_at FLOAT NOT NULL, 
	CONSTRAINT pk_feedback_drafts PRIMARY KEY (task_id, labeller)
);
CREATE TABLE feedback_events (
	id INTEGER NOT NULL, 
	message_id VARCHAR(64) NOT NULL, 
	user_id VARCHAR(64) NOT NULL, 
	vote VARCHAR(8) NOT NULL, 
	reasons JSON NOT NULL, 
	comment TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_feedback_events PRIMARY KEY (id), 
	CONSTRAINT fk_feedback_events_message_id_messages FOREIGN KEY(message_id) REFERENCES messages (id) ON DELETE CASCADE, 
	CONSTRAINT fk_feedback_events_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE feedback_export_items (
	export_id VARCHAR(64) NOT NULL, 
	task_id VARCHAR(64) NOT NULL, 
	label_uuid VARCHAR(128) NOT NULL, 
	payload_id VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_feedback_export_items PRIMARY KEY (export_id, task_id, label_uuid, payload_id), 
	CONSTRAINT fk_feedback_export_items_export_id_feedback_exports FOREIGN KEY(export_id) REFERENCES feedback_exports (id) ON DELETE CASCADE
);
CREATE TABLE feedback_exports (
	id VARCHAR(64) NOT NULL, 
	path TEXT NOT NULL, 
	filters JSON NOT NULL, 
	counts JSON NOT NULL, 
	created_by VARCHAR(128) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_feedback_exports PRIMARY KEY (id)
);
CREATE TABLE feedback_guidelines (
	id VARCHAR(64) NOT NULL, 
	project_id VARCHAR(64) NOT NULL, 
	language VARCHAR(16) NOT NULL, 
	version INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	created_by VARCHAR(256) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_feedback_guidelines PRIMARY KEY (id), 
	CONSTRAINT uq_feedback_guidelines_project_id UNIQUE (project_id, language, version)
);
CREATE TABLE feedback_labellers (
	labeller VARCHAR(256) NOT NULL, 
	languages JSON NOT NULL, 
	CONSTRAINT pk_feedback_labellers PRIMARY KEY (labeller)
);
CREATE TABLE feedback_labels (
	uuid VARCHAR(64) NOT NULL, 
	seq INTEGER NOT NULL, 
	task_id VARCHAR(64) NOT NULL, 
	project_id VARCHAR(64) NOT NULL, 
	labeller VARCHAR(256) NOT NULL, 
	labeller_kind VARCHAR(16) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	value JSON NOT NULL, 
	payload_id VARCHAR(64) NOT NULL, 
	guideline_id VARCHAR(64) NOT NULL, 
	seconds JSON NOT NULL, 
	shown_order JSON, 
	state VARCHAR(16) NOT NULL, 
	too_fast BOOLEAN NOT NULL, 
	draft_model VARCHAR(256) NOT NULL, 
	gold_tau FLOAT, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_feedback_labels PRIMARY KEY (uuid)
);
CREATE TABLE feedback_leases (
	task_id VARCHAR(64) NOT NULL, 
	labeller VARCHAR(256) NOT NULL, 
	expires_at FLOAT NOT NULL, 
	shown_order JSON NOT NULL, 
	draft_model VARCHAR(256) NOT NULL, 
	CONSTRAINT pk_feedback_leases PRIMARY KEY (task_id, labeller)
);
CREATE TABLE feedback_merged (
	task_id VARCHAR(64) NOT NULL, 
	method VARCHAR(32) NOT NULL, 
	"order" VARCHAR(64) NOT NULL, 
	detail JSON NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_feedback_merged PRIMARY KEY (task_id)
);
CREATE TABLE feedback_projects (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	settings JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	archived_at FLOAT, 
	CONSTRAINT pk_feedback_projects PRIMARY KEY (id), 
	CONSTRAINT uq_feedback_projects_name UNIQUE (name)
);
CREATE TABLE feedback_skips (
	task_id VARCHAR(64) NOT NULL, 
	labeller VARCHAR(256) NOT NULL, 
	reason VARCHAR(32) NOT NULL, 
	flagged BOOLEAN NOT NULL, 
	payload_id VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_feedback_skips PRIMARY KEY (task_id, labeller)
);
CREATE TABLE feedback_tasks (
	id VARCHAR(64) NOT NULL, 
	seq INTEGER NOT NULL, 
	project_id VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	language VARCHAR(16) NOT NULL, 
	split VARCHAR(16) NOT NULL, 
	subject VARCHAR(64) NOT NULL, 
	source VARCHAR(16) NOT NULL, 
	prompt_payload VARCHAR(64) NOT NULL, 
	answers JSON NOT NULL, 
	gold JSON, 
	screening BOOLEAN NOT NULL, 
	everybody BOOLEAN NOT NULL, 
	overlap INTEGER NOT NULL, 
	priority FLOAT NOT NULL, 
	labels_count INTEGER NOT NULL, 
	flags_count INTEGER NOT NULL, 
	of_task VARCHAR(64) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_feedback_tasks PRIMARY KEY (id)
);
CREATE TABLE identities (
	issuer VARCHAR(512) NOT NULL, 
	subject VARCHAR(255) NOT NULL, 
	user_id VARCHAR(64) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_identities PRIMARY KEY (issuer, subject), 
	CONSTRAINT fk_identities_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE job_effects (
	job_id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	fence INTEGER NOT NULL, 
	data JSON NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_job_effects PRIMARY KEY (job_id, name), 
	CONSTRAINT fk_job_effects_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
CREATE TABLE jobs (
	id VARCHAR(64) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	settings JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	fence INTEGER NOT NULL, 
	worker VARCHAR(128) NOT NULL, 
	lease_expires_at FLOAT NOT NULL, 
	attempts INTEGER NOT NULL, 
	cancel BOOLEAN NOT NULL, 
	progress JSON NOT NULL, 
	result JSON NOT NULL, 
	message TEXT NOT NULL, 
	created_by VARCHAR(128) NOT NULL, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	CONSTRAINT pk_jobs PRIMARY KEY (id)
);
CREATE TABLE label_events (
	id INTEGER NOT NULL, 
	uuid VARCHAR(64) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	at FLOAT NOT NULL, 
	actor VARCHAR(256) NOT NULL, 
	actor_kind VARCHAR(16) NOT NULL, 
	project_id VARCHAR(64) NOT NULL, 
	task_id VARCHAR(64) NOT NULL, 
	guideline_id VARCHAR(64) NOT NULL, 
	data JSON NOT NULL, 
	payload_id VARCHAR(64) NOT NULL, 
	subject VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_label_events PRIMARY KEY (id), 
	CONSTRAINT uq_label_events_uuid UNIQUE (uuid)
);
CREATE TABLE links (
	token_hash VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	user_id VARCHAR(64), 
	created_by VARCHAR(64) NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	CONSTRAINT pk_links PRIMARY KEY (token_hash), 
	CONSTRAINT fk_links_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE login_sessions (
	token_hash VARCHAR(64) NOT NULL, 
	user_id VARCHAR(64) NOT NULL, 
	csrf VARCHAR(64) NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	CONSTRAINT pk_login_sessions PRIMARY KEY (token_hash), 
	CONSTRAINT fk_login_sessions_user_id_users FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE message_tokens (
	message_id VARCHAR(64) NOT NULL, 
	data BLOB NOT NULL, 
	CONSTRAINT pk_message_tokens PRIMARY KEY (message_id), 
	CONSTRAINT fk_message_tokens_message_id_messages FOREIGN KEY(message_id) REFERENCES messages (id) ON DELETE CASCADE
);
CREATE TABLE messages (
	id VARCHAR(64) NOT NULL, 
	conversation_id VARCHAR(64) NOT NULL, 
	parent_id VARCHAR(64), 
	place INTEGER NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	content TEXT NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	origin VARCHAR(16) NOT NULL, 
	model VARCHAR(256) NOT NULL, 
	settings JSON NOT NULL, 
	steps JSON NOT NULL, 
	error TEXT NOT NULL, 
	finish_reason VARCHAR(16) NOT NULL, 
	prompt_tokens INTEGER NOT NULL, 
	completion_tokens INTEGER NOT NULL, 
	dropped_messages INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_messages PRIMARY KEY (id), 
	CONSTRAINT fk_messages_conversation_id_conversations FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE, 
	CONSTRAINT fk_messages_parent_id_messages FOREIGN KEY(parent_id) REFERENCES messages (id)
);
CREATE TABLE model_exports (
	model_id VARCHAR(64) NOT NULL, 
	export_id VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_model_exports PRIMARY KEY (model_id, export_id), 
	CONSTRAINT fk_model_exports_export_id_feedback_exports FOREIGN KEY(export_id) REFERENCES feedback_exports (id), 
	CONSTRAINT fk_model_exports_model_id_models FOREIGN KEY(model_id) REFERENCES models (id) ON DELETE CASCADE
);
CREATE TABLE models (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	path TEXT NOT NULL, 
	manifest VARCHAR(64) NOT NULL, 
	base TEXT NOT NULL, 
	parent_id VARCHAR(64), 
	job_id VARCHAR(64) NOT NULL, 
	figures JSON NOT NULL, 
	created_by VARCHAR(128) NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_models PRIMARY KEY (id), 
	CONSTRAINT fk_models_parent_id_models FOREIGN KEY(parent_id) REFERENCES models (id)
);
CREATE TABLE moderation_events (
	id VARCHAR(64) NOT NULL, 
	at FLOAT NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	request_id VARCHAR(128) NOT NULL, 
	model VARCHAR(256) NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	category VARCHAR(32) NOT NULL, 
	score FLOAT NOT NULL, 
	action VARCHAR(8) NOT NULL, 
	text_hash VARCHAR(64) NOT NULL, 
	text TEXT, 
	CONSTRAINT pk_moderation_events PRIMARY KEY (id)
);
CREATE TABLE payloads (
	id VARCHAR(64) NOT NULL, 
	subject VARCHAR(64) NOT NULL, 
	content JSON, 
	created_at FLOAT NOT NULL, 
	erased_at FLOAT, 
	CONSTRAINT pk_payloads PRIMARY KEY (id)
);
CREATE TABLE prompt_entries (
	id VARCHAR(64) NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	language VARCHAR(16) NOT NULL, 
	title VARCHAR(200) NOT NULL, 
	text TEXT NOT NULL, 
	shared BOOLEAN NOT NULL, 
	updated_at FLOAT NOT NULL, 
	CONSTRAINT pk_prompt_entries PRIMARY KEY (id), 
	CONSTRAINT fk_prompt_entries_owner_users FOREIGN KEY(owner) REFERENCES users (id) ON DELETE CASCADE
);
CREATE TABLE serving (
	id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	model_id VARCHAR(64), 
	action VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	forced BOOLEAN NOT NULL, 
	actor VARCHAR(128) NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_serving PRIMARY KEY (id), 
	CONSTRAINT fk_serving_model_id_models FOREIGN KEY(model_id) REFERENCES models (id)
);
CREATE TABLE shares (
	token VARCHAR(64) NOT NULL, 
	conversation_id VARCHAR(64) NOT NULL, 
	snapshot JSON NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_shares PRIMARY KEY (token), 
	CONSTRAINT fk_shares_conversation_id_conversations FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE, 
	CONSTRAINT uq_shares_conversation_id UNIQUE (conversation_id)
);
CREATE TABLE usage (
	day VARCHAR(10) NOT NULL, 
	owner VARCHAR(64) NOT NULL, 
	model VARCHAR(256) NOT NULL, 
	user_id VARCHAR(64) NOT NULL, 
	requests BIGINT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	completion_tokens BIGINT NOT NULL, 
	CONSTRAINT pk_usage PRIMARY KEY (day, owner, model)
);
CREATE TABLE users (
	id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	password_hash VARCHAR(256), 
	created_at FLOAT NOT NULL, 
	disabled_at FLOAT, 
	CONSTRAINT pk_users PRIMARY KEY (id), 
	CONSTRAINT uq_users_name UNIQUE (name)
);
CREATE INDEX ix_audit_events_at ON audit_events (at);
CREATE INDEX ix_feedback_labels_labeller_seq ON feedback_labels (labeller, seq);
CREATE INDEX ix_feedback_labels_project_id_kind ON feedback_labels (project_id, kind);
CREATE INDEX ix_feedback_labels_task_id ON feedback_labels (task_id);
CREATE INDEX ix_feedback_leases_labeller ON feedback_leases (labeller);
CREATE INDEX ix_feedback_tasks_of_task ON feedback_tasks (of_task);
CREATE INDEX ix_feedback_tasks_project_id ON feedback_tasks (project_id, seq);
CREATE INDEX ix_feedback_tasks_queue ON feedback_tasks (state, project_id, kind, priority, labels_count, seq);
CREATE INDEX ix_feedback_tasks_subject ON feedback_tasks (subject);
CREATE INDEX ix_jobs_state_created_at ON jobs (state, created_at);
CREATE INDEX ix_label_events_kind_project_id ON label_events (kind, project_id);
CREATE INDEX ix_label_events_subject ON label_events (subject);
CREATE INDEX ix_label_events_task_id ON label_events (task_id);
CREATE INDEX ix_moderation_events_at ON moderation_events (at);
CREATE INDEX ix_payloads_subject ON payloads (subject);
CREATE INDEX ix_usage_user_id ON usage (user_id);
CREATE INDEX ix_api_keys_user_id ON api_keys (user_id);
CREATE INDEX ix_arena_battles_owner ON arena_battles (owner);
CREATE INDEX ix_conversations_owner_updated_at ON conversations (owner, updated_at);
CREATE INDEX ix_feedback_export_items_label_uuid ON feedback_export_items (label_uuid);
CREATE INDEX ix_feedback_export_items_payload_id ON feedback_export_items (payload_id);
CREATE INDEX ix_identities_user_id ON identities (user_id);
CREATE INDEX ix_login_sessions_user_id ON login_sessions (user_id);
CREATE INDEX ix_model_exports_export_id ON model_exports (export_id);
CREATE INDEX ix_prompt_entries_owner ON prompt_entries (owner);
CREATE INDEX ix_serving_name ON serving (name);
CREATE INDEX ix_arena_votes_user_id ON arena_votes (user_id);
CREATE INDEX ix_messages_conversation_id ON messages (conversation_id);
CREATE INDEX ix_messages_parent_id ON messages (parent_id);
CREATE INDEX ix_feedback_events_message_id ON feedback_events (message_id);
CREATE INDEX ix_feedback_events_user_id ON feedback_events (user_id);
CREATE TRIGGER label_events_no_update BEFORE UPDATE ON label_events BEGIN SELECT RAISE(ABORT, 'label_events is append-only'); END;
CREATE TRIGGER label_events_no_delete BEFORE DELETE ON label_events BEGIN SELECT RAISE(ABORT, 'label_events is append-only'); END;
CREATE TRIGGER label_events_no_replace BEFORE INSERT ON label_events WHEN EXISTS (SELECT 1 FROM label_events WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'label_events is append-only'); END;
COMMIT;
