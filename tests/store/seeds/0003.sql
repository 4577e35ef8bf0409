INSERT INTO hosts (name, heard_at, body) VALUES ('web1', 1700000005.5, '{"containers":[]}');
