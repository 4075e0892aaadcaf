PRAGMA application_id = 1886676596;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE prediction (
    key TEXT PRIMARY KEY,
    row_id TEXT NOT NULL DEFAULT '',
    stage TEXT NOT NULL DEFAULT '',
    repeat INTEGER NOT NULL DEFAULT 0,
    state TEXT,
    output TEXT,
    usage TEXT,
    latency REAL,
    attempts INTEGER,
    error TEXT,
    served_model TEXT,
    asked_at REAL NOT NULL,
    owner TEXT,
    lease REAL NOT NULL DEFAULT 0,
    claims INTEGER NOT NULL DEFAULT 0
);
INSERT INTO "prediction" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','r1','baseline',0,'scored','{"category":"grün"}','{"prompt_tokens": 12, "completion_tokens": 3, "cost": 0.25}',0.5,1,NULL,'small-2026',1763630000.5,NULL,0.0,0);
INSERT INTO "prediction" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','r2','finetuned',0,'format_error','I think it is green','{"prompt_tokens": 9, "completion_tokens": 4, "cost": null}',0.25,2,'unparseable: the answer does not have the fields that the adapter asked for',NULL,1763630000.5,NULL,0.0,0);
INSERT INTO "prediction" VALUES('cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','','',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1763630000.5,NULL,0.0,0);
CREATE TABLE score (
    key TEXT NOT NULL REFERENCES prediction (key) ON DELETE CASCADE,
    row_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (key, row_id, metric)
) WITHOUT ROWID;
INSERT INTO "score" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','r1','m1',1.0);
CREATE INDEX held ON prediction (owner, lease) WHERE owner IS NOT NULL;
COMMIT;
