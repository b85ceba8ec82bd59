-- +goose Up
-- The tables are those of Fn at its schema version 26, so that a database of
-- Fn opens as it is.
CREATE TABLE IF NOT EXISTS apps (
    id varchar(256) NOT NULL PRIMARY KEY,
    name varchar(256) NOT NULL UNIQUE,
    config text NOT NULL,
    annotations text NOT NULL,
    syslog_url text,
    created_at varchar(256),
    updated_at varchar(256),
    shape text
);
CREATE TABLE IF NOT EXISTS fns (
    id varchar(256) NOT NULL PRIMARY KEY,
    name varchar(256) NOT NULL,
    app_id varchar(256) NOT NULL,
    image varchar(256) NOT NULL,
    memory int NOT NULL,
    timeout int NOT NULL,
    idle_timeout int NOT NULL,
    config text NOT NULL,
    annotations text NOT NULL,
    created_at varchar(256) NOT NULL,
    updated_at varchar(256) NOT NULL,
    shape text,
    CONSTRAINT name_app_id_unique UNIQUE (app_id, name)
);
CREATE TABLE IF NOT EXISTS triggers (
    id varchar(256) NOT NULL PRIMARY KEY,
    name varchar(256) NOT NULL,
    app_id varchar(256) NOT NULL,
    fn_id varchar(256) NOT NULL,
    created_at varchar(256) NOT NULL,
    updated_at varchar(256) NOT NULL,
    type varchar(256) NOT NULL,
    source varchar(256) NOT NULL,
    annotations text NOT NULL,
    CONSTRAINT name_app_id_fn_id_unique UNIQUE (app_id, fn_id, name)
);
CREATE TABLE IF NOT EXISTS schema_migrations (
    version bigint NOT NULL PRIMARY KEY,
    dirty boolean NOT NULL
);
INSERT INTO schema_migrations (version, dirty)
    SELECT 26, 0 WHERE NOT EXISTS (SELECT 1 FROM schema_migrations);
-- One trigger per source, whoever writes first.
CREATE UNIQUE INDEX triggers_app_id_type_source_unique ON triggers (app_id, type, source);
CREATE INDEX triggers_app_id_name_id ON triggers (app_id, name, id);
CREATE INDEX triggers_fn_id ON triggers (fn_id);
