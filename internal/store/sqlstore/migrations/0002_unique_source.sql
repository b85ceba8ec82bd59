-- +goose Up
-- One trigger per source, whoever writes first.
CREATE UNIQUE INDEX triggers_app_id_type_source_unique ON triggers (app_id, type, source);
CREATE INDEX triggers_fn_id ON triggers (fn_id);
