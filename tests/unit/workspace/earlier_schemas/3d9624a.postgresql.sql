CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.api_keys (
    id character varying(64) NOT NULL,
    user_id character varying(64),
    name character varying(128) NOT NULL,
    prefix character varying(16) NOT NULL,
    key_hash character varying(64) NOT NULL,
    scopes json NOT NULL,
    created_at double precision NOT NULL,
    expires_at double precision,
    revoked_at double precision,
    requests_per_minute integer NOT NULL,
    tokens_per_minute integer NOT NULL,
    tokens_per_day bigint NOT NULL,
    tokens_total bigint NOT NULL
);
CREATE TABLE public.arena_battles (
    id character varying(64) NOT NULL,
    owner character varying(64) NOT NULL,
    prompt text NOT NULL,
    entrants json NOT NULL,
    answer_a text NOT NULL,
    answer_b text NOT NULL,
    status_a character varying(16) NOT NULL,
    status_b character varying(16) NOT NULL,
    finish_a character varying(16) NOT NULL,
    finish_b character varying(16) NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.arena_entrants (
    id character varying(64) NOT NULL,
    name character varying(128) NOT NULL,
    model character varying(256) NOT NULL,
    system text NOT NULL,
    settings json NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.arena_votes (
    battle_id character varying(64) NOT NULL,
    user_id character varying(64) NOT NULL,
    question character varying(64) NOT NULL,
    vote character varying(16) NOT NULL,
    void character varying(32) NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.audit_events (
    id bigint NOT NULL,
    at double precision NOT NULL,
    actor character varying(64) NOT NULL,
    action character varying(64) NOT NULL,
    target text NOT NULL,
    detail json NOT NULL,
    address character varying(64) NOT NULL
);
CREATE SEQUENCE public.audit_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.audit_events_id_seq OWNED BY public.audit_events.id;
CREATE TABLE public.chat_preferences (
    user_id character varying(64) NOT NULL,
    training_consent boolean NOT NULL,
    changed_at double precision NOT NULL
);
CREATE TABLE public.conversations (
    id character varying(64) NOT NULL,
    owner character varying(64) NOT NULL,
    title character varying(200) NOT NULL,
    system text NOT NULL,
    model character varying(256) NOT NULL,
    settings json NOT NULL,
    active_leaf character varying(64),
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL
);
CREATE TABLE public.feedback_events (
    id bigint NOT NULL,
    message_id character varying(64) NOT NULL,
    user_id character varying(64) NOT NULL,
    vote character varying(8) NOT NULL,
    reasons json NOT NULL,
    comment text NOT NULL,
    created_at double precision NOT NULL
);
CREATE SEQUENCE public.feedback_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.feedback_events_id_seq OWNED BY public.feedback_events.id;
CREATE TABLE public.feedback_export_items (
    export_id character varying(64) NOT NULL,
    task_id character varying(64) NOT NULL,
    label_uuid character varying(128) NOT NULL,
    payload_id character varying(64) NOT NULL
);
CREATE TABLE public.feedback_exports (
    id character varying(64) NOT NULL,
    path text NOT NULL,
    filters json NOT NULL,
    counts json NOT NULL,
    created_by character varying(128) NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.identities (
    issuer character varying(512) NOT NULL,
    subject character varying(255) NOT NULL,
    user_id character varying(64) NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.job_effects (
    job_id character varying(64) NOT NULL,
    name character varying(64) NOT NULL,
    fence integer NOT NULL,
    data json NOT NULL,
    at double precision NOT NULL
);
CREATE TABLE public.jobs (
    id character varying(64) NOT NULL,
    kind character varying(32) NOT NULL,
    settings json NOT NULL,
    state character varying(16) NOT NULL,
    fence integer NOT NULL,
    worker character varying(128) NOT NULL,
    lease_expires_at double precision NOT NULL,
    attempts integer NOT NULL,
    cancel boolean NOT NULL,
    progress json NOT NULL,
    result json NOT NULL,
    message text NOT NULL,
    created_by character varying(128) NOT NULL,
    created_at double precision NOT NULL,
    started_at double precision,
    ended_at double precision
);
CREATE TABLE public.links (
    token_hash character varying(64) NOT NULL,
    kind character varying(16) NOT NULL,
    role character varying(16) NOT NULL,
    user_id character varying(64),
    created_by character varying(64) NOT NULL,
    created_at double precision NOT NULL,
    expires_at double precision NOT NULL
);
CREATE TABLE public.login_sessions (
    token_hash character varying(64) NOT NULL,
    user_id character varying(64) NOT NULL,
    csrf character varying(64) NOT NULL,
    created_at double precision NOT NULL,
    expires_at double precision NOT NULL
);
CREATE TABLE public.message_tokens (
    message_id character varying(64) NOT NULL,
    data bytea NOT NULL
);
CREATE TABLE public.messages (
    id character varying(64) NOT NULL,
    conversation_id character varying(64) NOT NULL,
    parent_id character varying(64),
    place integer NOT NULL,
    role character varying(16) NOT NULL,
    content text NOT NULL,
    status character varying(16) NOT NULL,
    origin character varying(16) NOT NULL,
    model character varying(256) NOT NULL,
    settings json NOT NULL,
    steps json NOT NULL,
    error text NOT NULL,
    finish_reason character varying(16) NOT NULL,
    prompt_tokens integer NOT NULL,
    completion_tokens integer NOT NULL,
    dropped_messages integer NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.model_exports (
    model_id character varying(64) NOT NULL,
    export_id character varying(64) NOT NULL
);
CREATE TABLE public.models (
    id character varying(64) NOT NULL,
    name character varying(128) NOT NULL,
    path text NOT NULL,
    manifest character varying(64) NOT NULL,
    base text NOT NULL,
    parent_id character varying(64),
    job_id character varying(64) NOT NULL,
    figures json NOT NULL,
    created_by character varying(128) NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.moderation_events (
    id character varying(64) NOT NULL,
    at double precision NOT NULL,
    owner character varying(64) NOT NULL,
    request_id character varying(128) NOT NULL,
    model character varying(256) NOT NULL,
    direction character varying(8) NOT NULL,
    category character varying(32) NOT NULL,
    score double precision NOT NULL,
    action character varying(8) NOT NULL,
    text_hash character varying(64) NOT NULL,
    text text
);
CREATE TABLE public.prompt_entries (
    id character varying(64) NOT NULL,
    owner character varying(64) NOT NULL,
    language character varying(16) NOT NULL,
    title character varying(200) NOT NULL,
    text text NOT NULL,
    shared boolean NOT NULL,
    updated_at double precision NOT NULL
);
CREATE TABLE public.serving (
    id bigint NOT NULL,
    name character varying(256) NOT NULL,
    model_id character varying(64),
    action character varying(16) NOT NULL,
    reason text NOT NULL,
    forced boolean NOT NULL,
    actor character varying(128) NOT NULL,
    at double precision NOT NULL
);
CREATE SEQUENCE public.serving_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.serving_id_seq OWNED BY public.serving.id;
CREATE TABLE public.shares (
    token character varying(64) NOT NULL,
    conversation_id character varying(64) NOT NULL,
    snapshot json NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.usage (
    day character varying(10) NOT NULL,
    owner character varying(64) NOT NULL,
    model character varying(256) NOT NULL,
    user_id character varying(64) NOT NULL,
    requests bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL
);
CREATE TABLE public.users (
    id character varying(64) NOT NULL,
    name character varying(64) NOT NULL,
    role character varying(16) NOT NULL,
    password_hash character varying(256),
    created_at double precision NOT NULL,
    disabled_at double precision
);
ALTER TABLE ONLY public.audit_events ALTER COLUMN id SET DEFAULT nextval('public.audit_events_id_seq'::regclass);
ALTER TABLE ONLY public.feedback_events ALTER COLUMN id SET DEFAULT nextval('public.feedback_events_id_seq'::regclass);
ALTER TABLE ONLY public.serving ALTER COLUMN id SET DEFAULT nextval('public.serving_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0001');
SELECT pg_catalog.setval('public.audit_events_id_seq', 1, false);
SELECT pg_catalog.setval('public.feedback_events_id_seq', 1, false);
SELECT pg_catalog.setval('public.serving_id_seq', 1, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT pk_api_keys PRIMARY KEY (id);
ALTER TABLE ONLY public.arena_battles
    ADD CONSTRAINT pk_arena_battles PRIMARY KEY (id);
ALTER TABLE ONLY public.arena_entrants
    ADD CONSTRAINT pk_arena_entrants PRIMARY KEY (id);
ALTER TABLE ONLY public.arena_votes
    ADD CONSTRAINT pk_arena_votes PRIMARY KEY (battle_id);
ALTER TABLE ONLY public.audit_events
    ADD CONSTRAINT pk_audit_events PRIMARY KEY (id);
ALTER TABLE ONLY public.chat_preferences
    ADD CONSTRAINT pk_chat_preferences PRIMARY KEY (user_id);
ALTER TABLE ONLY public.conversations
    ADD CONSTRAINT pk_conversations PRIMARY KEY (id);
ALTER TABLE ONLY public.feedback_events
    ADD CONSTRAINT pk_feedback_events PRIMARY KEY (id);
ALTER TABLE ONLY public.feedback_export_items
    ADD CONSTRAINT pk_feedback_export_items PRIMARY KEY (export_id, task_id, label_uuid, payload_id);
ALTER TABLE ONLY public.feedback_exports
    ADD CONSTRAINT pk_feedback_exports PRIMARY KEY (id);
ALTER TABLE ONLY public.identities
    ADD CONSTRAINT pk_identities PRIMARY KEY (issuer, subject);
ALTER TABLE ONLY public.job_effects
    ADD CONSTRAINT pk_job_effects PRIMARY KEY (job_id, name);
ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT pk_jobs PRIMARY KEY (id);
ALTER TABLE ONLY public.links
    ADD CONSTRAINT pk_links PRIMARY KEY (token_hash);
ALTER TABLE ONLY public.login_sessions
    ADD CONSTRAINT pk_login_sessions PRIMARY KEY (token_hash);
ALTER TABLE ONLY public.message_tokens
    ADD CONSTRAINT pk_message_tokens PRIMARY KEY (message_id);
ALTER TABLE ONLY public.messages
    ADD CONSTRAINT pk_messages PRIMARY KEY (id);
ALTER TABLE ONLY public.model_exports
    ADD CONSTRAINT pk_model_exports PRIMARY KEY (model_id, export_id);
ALTER TABLE ONLY public.models
    ADD CONSTRAINT pk_models PRIMARY KEY (id);
ALTER TABLE ONLY public.moderation_events
    ADD CONSTRAINT pk_moderation_events PRIMARY KEY (id);
ALTER TABLE ONLY public.prompt_entries
    ADD CONSTRAINT pk_prompt_entries PRIMARY KEY (id);
ALTER TABLE ONLY public.serving
    ADD CONSTRAINT pk_serving PRIMARY KEY (id);
ALTER TABLE ONLY public.shares
    ADD CONSTRAINT pk_shares PRIMARY KEY (token);
ALTER TABLE ONLY public.usage
    ADD CONSTRAINT pk_usage PRIMARY KEY (day, owner, model);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT pk_users PRIMARY KEY (id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT uq_api_keys_key_hash UNIQUE (key_hash);
ALTER TABLE ONLY public.arena_entrants
    ADD CONSTRAINT uq_arena_entrants_name UNIQUE (name);
ALTER TABLE ONLY public.arena_votes
    ADD CONSTRAINT uq_arena_votes_user_question UNIQUE (user_id, question);
ALTER TABLE ONLY public.shares
    ADD CONSTRAINT uq_shares_conversation_id UNIQUE (conversation_id);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT uq_users_name UNIQUE (name);
CREATE INDEX ix_api_keys_user_id ON public.api_keys USING btree (user_id);
CREATE INDEX ix_arena_battles_owner ON public.arena_battles USING btree (owner);
CREATE INDEX ix_arena_votes_user_id ON public.arena_votes USING btree (user_id);
CREATE INDEX ix_audit_events_at ON public.audit_events USING btree (at);
CREATE INDEX ix_conversations_owner_updated_at ON public.conversations USING btree (owner, updated_at);
CREATE INDEX ix_feedback_events_message_id ON public.feedback_events USING btree (message_id);
CREATE INDEX ix_feedback_events_user_id ON public.feedback_events USING btree (user_id);
CREATE INDEX ix_feedback_export_items_label_uuid ON public.feedback_export_items USING btree (label_uuid);
CREATE INDEX ix_feedback_export_items_payload_id ON public.feedback_export_items USING btree (payload_id);
CREATE INDEX ix_identities_user_id ON public.identities USING btree (user_id);
CREATE INDEX ix_jobs_state_created_at ON public.jobs USING btree (state, created_at);
CREATE INDEX ix_login_sessions_user_id ON public.login_sessions USING btree (user_id);
CREATE INDEX ix_messages_conversation_id ON public.messages USING btree (conversation_id);
CREATE INDEX ix_messages_parent_id ON public.messages USING btree (parent_id);
CREATE INDEX ix_model_exports_export_id ON public.model_exports USING btree (export_id);
CREATE INDEX ix_moderation_events_at ON public.moderation_events USING btree (at);
CREATE INDEX ix_prompt_entries_owner ON public.prompt_entries USING btree (owner);
CREATE INDEX ix_serving_name ON public.serving USING btree (name);
CREATE INDEX ix_usage_user_id ON public.usage USING btree (user_id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT fk_api_keys_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.arena_battles
    ADD CONSTRAINT fk_arena_battles_owner_users FOREIGN KEY (owner) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.arena_votes
    ADD CONSTRAINT fk_arena_votes_battle_id_arena_battles FOREIGN KEY (battle_id) REFERENCES public.arena_battles(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.arena_votes
    ADD CONSTRAINT fk_arena_votes_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.chat_preferences
    ADD CONSTRAINT fk_chat_preferences_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.conversations
    ADD CONSTRAINT fk_conversations_owner_users FOREIGN KEY (owner) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.feedback_events
    ADD CONSTRAINT fk_feedback_events_message_id_messages FOREIGN KEY (message_id) REFERENCES public.messages(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.feedback_events
    ADD CONSTRAINT fk_feedback_events_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.feedback_export_items
    ADD CONSTRAINT fk_feedback_export_items_export_id_feedback_exports FOREIGN KEY (export_id) REFERENCES public.feedback_exports(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.identities
    ADD CONSTRAINT fk_identities_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.job_effects
    ADD CONSTRAINT fk_job_effects_job_id_jobs FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.links
    ADD CONSTRAINT fk_links_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.login_sessions
    ADD CONSTRAINT fk_login_sessions_user_id_users FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.message_tokens
    ADD CONSTRAINT fk_message_tokens_message_id_messages FOREIGN KEY (message_id) REFERENCES public.messages(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.messages
    ADD CONSTRAINT fk_messages_conversation_id_conversations FOREIGN KEY (conversation_id) REFERENCES public.conversations(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.messages
    ADD CONSTRAINT fk_messages_parent_id_messages FOREIGN KEY (parent_id) REFERENCES public.messages(id);
ALTER TABLE ONLY public.model_exports
    ADD CONSTRAINT fk_model_exports_export_id_feedback_exports FOREIGN KEY (export_id) REFERENCES public.feedback_exports(id);
ALTER TABLE ONLY public.model_exports
    ADD CONSTRAINT fk_model_exports_model_id_models FOREIGN KEY (model_id) REFERENCES public.models(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.models
    ADD CONSTRAINT fk_models_parent_id_models FOREIGN KEY (parent_id) REFERENCES public.models(id);
ALTER TABLE ONLY public.prompt_entries
    ADD CONSTRAINT fk_prompt_entries_owner_users FOREIGN KEY (owner) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.serving
    ADD CONSTRAINT fk_serving_model_id_models FOREIGN KEY (model_id) REFERENCES public.models(id);
ALTER TABLE ONLY public.shares
    ADD CONSTRAINT fk_shares_conversation_id_conversations FOREIGN KEY (conversation_id) REFERENCES public.conversations(id) ON DELETE CASCADE;
