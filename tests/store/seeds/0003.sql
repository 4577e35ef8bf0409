INSERT INTO hosts (name, heard_at, body) VALUES ('web1', 1700000005.5, '{"containers":[]}');
INSERT INTO ways (source, moved_at, is_done, body) VALUES ('images/base', 1700000002.5, TRUE, '{}');
