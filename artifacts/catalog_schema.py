"""The tables of the local catalog, which mirror the store, and the views that people ask.

An artifact that has two names stands in the views under each of them.
"""

from __future__ import annotations

SCHEMA = 2

TABLES = """
CREATE SCHEMA stored;
CREATE TABLE stored.about (schema_number INTEGER, store VARCHAR);
CREATE TABLE stored.versions (
    ref VARCHAR, kind VARCHAR, name VARCHAR, version INTEGER, run VARCHAR, manifest VARCHAR
);
CREATE TABLE stored.aliases (ref VARCHAR, alias VARCHAR);
CREATE TABLE stored.manifests (
    manifest VARCHAR, digest VARCHAR, stage VARCHAR, fingerprint VARCHAR, created VARCHAR, bytes BIGINT,
    "commit" VARCHAR, command VARCHAR, config JSON, metrics JSON, key_metric VARCHAR, key_value DOUBLE
);
CREATE TABLE stored.parents (manifest VARCHAR, role VARCHAR, parent VARCHAR, parent_manifest VARCHAR);
CREATE TABLE stored.measured (manifest VARCHAR, day VARCHAR);
CREATE TABLE stored.records (
    manifest VARCHAR, v BIGINT, kind VARCHAR, stage VARCHAR, attempt BIGINT, step BIGINT, tokens BIGINT,
    elapsed_s DOUBLE, time VARCHAR, name VARCHAR, value DOUBLE, text VARCHAR, n BIGINT, ci_low DOUBLE,
    ci_high DOUBLE, split VARCHAR, task VARCHAR
);
"""

VIEWS = {
    "runs": """
        SELECT run, min(created) AS started, max(created) AS ended, count(*) AS artifacts,
            list(stage ORDER BY created, ref) AS stages, list(ref ORDER BY created, ref) AS newest
        FROM (
            SELECT run, ref, stage, TRY_CAST(created AS TIMESTAMP) AS created
            FROM stored.versions JOIN stored.manifests USING (manifest)
            QUALIFY row_number() OVER (PARTITION BY kind, name ORDER BY version DESC) = 1
        ) GROUP BY run
        """,
    "stages": """
        SELECT run, stage, ref AS artifact, TRY_CAST(created AS TIMESTAMP) AS created, seconds, key_metric,
            key_value, metrics, config, fingerprint, manifest
        FROM stored.versions JOIN stored.manifests USING (manifest)
        LEFT JOIN (
            SELECT manifest, max(elapsed_s) AS seconds FROM stored.records GROUP BY manifest
        ) USING (manifest)
        """,
    "metrics": """
        SELECT run, ref AS artifact, stage, records.kind, records.name, step, value, text, tokens, elapsed_s,
            TRY_CAST(time AS TIMESTAMP) AS time, n, ci_low, ci_high, split, task, attempt, v, manifest
        FROM stored.records LEFT JOIN stored.versions USING (manifest)
        """,
    "evals": """
        SELECT run, artifact, stage, name, task, split, value, n, ci_low, ci_high, step, time, manifest
        FROM metrics WHERE kind = 'eval'
        """,
    "artifacts": """
        SELECT ref, kind, name, version, digest, bytes, TRY_CAST(created AS TIMESTAMP) AS created,
            coalesce(aliases, []) AS aliases, "commit", command, run, stage, manifest
        FROM stored.versions JOIN stored.manifests USING (manifest)
        LEFT JOIN (
            SELECT ref, list(alias ORDER BY alias) AS aliases FROM stored.aliases GROUP BY ref
        ) USING (ref)
        """,
    "lineage": """
        SELECT ref AS child, parent, role, manifest AS child_manifest, parent_manifest
        FROM stored.parents JOIN stored.versions USING (manifest)
        """,
}


def statements() -> str:
    """SQL that makes every table and view in an empty catalog."""
    views = "".join(f"CREATE VIEW {name} AS {text};" for name, text in VIEWS.items())
    return TABLES + views
