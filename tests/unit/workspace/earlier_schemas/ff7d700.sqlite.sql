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
	CONSTRAINT fk_messages_parent_id_messages FOREIGN KEY(parent_id) REFERENCES messages (id) ON DELETE CASCADE
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
	oidc_subject VARCHAR(512), 
	created_at FLOAT NOT NULL, 
	disabled_at FLOAT, 
	CONSTRAINT pk_users PRIMARY KEY (id), 
	CONSTRAINT uq_users_name UNIQUE (name), 
	CONSTRAINT uq_users_oidc_subject UNIQUE (oidc_subject)
);
CREATE INDEX ix_audit_events_at ON audit_events (at);
CREATE INDEX ix_moderation_events_at ON moderation_events (at);
CREATE INDEX ix_usage_user_id ON usage (user_id);
CREATE INDEX ix_api_keys_user_id ON api_keys (user_id);
CREATE INDEX ix_arena_battles_owner ON arena_battles (owner);
CREATE INDEX ix_conversations_owner_updated_at ON conversations (owner, updated_at);
CREATE INDEX ix_login_sessions_user_id ON login_sessions (user_id);
CREATE INDEX ix_prompt_entries_owner ON prompt_entries (owner);
CREATE INDEX ix_arena_votes_user_id ON arena_votes (user_id);
CREATE INDEX ix_messages_conversation_id ON messages (conversation_id);
CREATE INDEX ix_messages_parent_id ON messages (parent_id);
CREATE INDEX ix_feedback_events_message_id ON feedback_events (message_id);
CREATE INDEX ix_feedback_events_user_id ON feedback_events (user_id);
COMMIT;
