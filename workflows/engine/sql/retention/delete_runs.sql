-- Delete runs, which are locked: from the commit on nobody sees them. What belongs to them is deleted after it, which
-- the new rows of prunedrun stand for; those that ended within a week are counted on, for the statistics.
-- Parameters: ids uuid[].
-- Returns: id uuid.
-- Index: primary key.
WITH gone AS (
    DELETE FROM headrace_workflows_run WHERE id = ANY (%(ids)s::uuid[]) AND ended_at IS NOT NULL
    RETURNING id, org_id, status, ended_at
), remains AS (
    INSERT INTO headrace_workflows_prunedrun (run_id, org_id, pruned_at)
    SELECT id, org_id, clock_timestamp() FROM gone ORDER BY id
), counts AS (
    INSERT INTO headrace_workflows_prunedcount AS c (org_id, status, minute, runs)
    SELECT org_id, status, date_trunc('minute', ended_at) AS minute, count(*) FROM gone
     WHERE ended_at > clock_timestamp() - interval '7 days'
     GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (org_id, status, minute) DO UPDATE SET runs = c.runs + EXCLUDED.runs
), imported AS (
    DELETE FROM headrace_workflows_importedrun WHERE run_id IN (SELECT id FROM gone)
)
SELECT id FROM gone
