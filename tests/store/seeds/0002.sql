INSERT INTO errands (id, at, is_done, body) VALUES ('1-2-3', 1700000004.0, FALSE, '{"type":"trial"}');
