"""The schema of an exported catalog: one SQLite file, for Datasette, sqlite-utils or SQL.

Invariant: ``docs/catalog.md`` has every table and column, and the tests compare both.
"""

from __future__ import annotations

#: Raised when a table or column is renamed or removed; kept in ``PRAGMA user_version``.
VERSION = 2

TABLES = """
CREATE TABLE store(url TEXT, exported_ms INTEGER, casinductor TEXT);
CREATE TABLE caches(id INTEGER PRIMARY KEY, gpu TEXT, key TEXT, UNIQUE(gpu, key));
CREATE TABLE manifests(ulid TEXT PRIMARY KEY, cache INTEGER REFERENCES caches(id),
    created_ms INTEGER, host TEXT, torch TEXT, root TEXT, bytes INTEGER, removed INTEGER,
    signer TEXT);
CREATE TABLE groups(id INTEGER PRIMARY KEY, cache INTEGER REFERENCES caches(id), gid TEXT,
    kind TEXT, content TEXT, origin TEXT, made_ms INTEGER, demands TEXT, files INTEGER,
    bytes INTEGER, restored INTEGER, used INTEGER);
CREATE TABLE manifest_groups(manifest TEXT REFERENCES manifests(ulid),
    group_id INTEGER REFERENCES groups(id), PRIMARY KEY(manifest, group_id)) WITHOUT ROWID;
CREATE TABLE artifacts(id INTEGER PRIMARY KEY, group_id INTEGER REFERENCES groups(id), path TEXT,
    mode INTEGER, bytes INTEGER, hash TEXT, needed INTEGER);
CREATE TABLE artifact_blobs(artifact INTEGER REFERENCES artifacts(id), position INTEGER,
    blob INTEGER REFERENCES blobs(id), PRIMARY KEY(artifact, position)) WITHOUT ROWID;
CREATE TABLE blobs(id INTEGER PRIMARY KEY, hash TEXT UNIQUE, bytes INTEGER);
CREATE TABLE packs(ulid TEXT PRIMARY KEY, bytes INTEGER, created_ms INTEGER);
CREATE TABLE blob_places(blob INTEGER REFERENCES blobs(id), pack TEXT REFERENCES packs(ulid),
    frame_offset INTEGER, frame_stored INTEGER, frame_raw INTEGER, codec TEXT, offset INTEGER,
    PRIMARY KEY(blob, pack, frame_offset)) WITHOUT ROWID;
CREATE TABLE graphs(group_id INTEGER PRIMARY KEY REFERENCES groups(id), key TEXT, kind TEXT,
    guards TEXT, seconds REAL, kernels INTEGER, inputs INTEGER, device TEXT, opaque TEXT,
    title TEXT);
CREATE TABLE graph_graphs(group_id INTEGER REFERENCES graphs(group_id), fx_key TEXT,
    PRIMARY KEY(group_id, fx_key)) WITHOUT ROWID;
CREATE TABLE components(id INTEGER PRIMARY KEY, name TEXT, digest TEXT, value TEXT,
    UNIQUE(name, digest));
CREATE TABLE graph_components(group_id INTEGER REFERENCES graphs(group_id),
    component INTEGER REFERENCES components(id), PRIMARY KEY(group_id, component)) WITHOUT ROWID;
CREATE TABLE kernels(id INTEGER PRIMARY KEY, cache INTEGER REFERENCES caches(id), name TEXT,
    kind TEXT, hash TEXT, target TEXT, warps INTEGER, stages INTEGER, shared INTEGER,
    registers INTEGER, stack_bytes INTEGER, bytes INTEGER, variants INTEGER, chosen INTEGER,
    config TEXT, module TEXT, restored INTEGER, used INTEGER, opaque TEXT);
CREATE TABLE graph_kernels(key TEXT, kernel INTEGER REFERENCES kernels(id),
    PRIMARY KEY(key, kernel)) WITHOUT ROWID;
CREATE TABLE uses(cache INTEGER REFERENCES caches(id), day TEXT,
    PRIMARY KEY(cache, day)) WITHOUT ROWID;
CREATE TABLE warmups(ulid TEXT PRIMARY KEY, cache INTEGER REFERENCES caches(id), host TEXT,
    started_ms INTEGER, seconds REAL, manifest TEXT, fxgraph_hit INTEGER, fxgraph_miss INTEGER,
    fxgraph_bypass INTEGER, aotautograd_hit INTEGER, aotautograd_miss INTEGER,
    aotautograd_bypass INTEGER, kernels_built INTEGER, rebuilt INTEGER, tuned INTEGER,
    files_restored INTEGER, files_used INTEGER, saved_seconds REAL, spent_seconds REAL);
CREATE TABLE warmup_graphs(warmup TEXT REFERENCES warmups(ulid), position INTEGER, kind TEXT,
    status TEXT, key TEXT, detail TEXT, guard TEXT, reason TEXT,
    PRIMARY KEY(warmup, position)) WITHOUT ROWID;
CREATE TABLE warmup_rebuilt(warmup TEXT REFERENCES warmups(ulid), path TEXT, kind TEXT, why TEXT,
    PRIMARY KEY(warmup, path)) WITHOUT ROWID;
CREATE INDEX groups_content ON groups(content);
CREATE INDEX artifacts_group ON artifacts(group_id);
CREATE INDEX graphs_key ON graphs(key);
CREATE INDEX kernels_name ON kernels(name);
CREATE INDEX graph_components_component ON graph_components(component);
"""
