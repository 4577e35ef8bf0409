INSERT INTO hints (key, received_at, is_done, body) VALUES ('7:d1', 1700000000.25, false, '{"kind":"pipeline","project_id":7,"pipeline_id":31}');
INSERT INTO hints (key, received_at, is_done, body) VALUES ('7:d0', 1700000000.0, true, '{"kind":"push","project_id":7}');
INSERT INTO observations (body) VALUES ('{"type":"VersionRead","input":"r.io/base:latest","version":"v1","at":1700000001.0}');
INSERT INTO observations (body) VALUES ('{"type":"BuildStarted","project":"images/app","build":"31","at":1700000002.0,"inputs":{"r.io/base:latest":"v1"},"cause":"base moved","url":""}');
INSERT INTO intents (id, source, at, body) VALUES ('i1', 'images/web', 1700000003.0, '{"id":"i1","source":"images/web","at":1700000003.0,"inputs":{},"cause":"base moved","cascade":"i1","after_pipeline":30}');
INSERT INTO builds (source, id, url, status, cause, cascade, started_at, finished_at) VALUES ('images/app', '31', '', 'running', 'base moved', 'i0', 1700000002.0, NULL);
INSERT INTO watermarks (name, at) VALUES ('pipelines', 1700000000.0);
UPDATE leases SET owner = 'old', number = 4, expires_at = 1700000030.0;
