-- The history over several machines with Citus. Run it on the coordinator, in BBQ's database, as its owner:
--
--     bbq-history upgrade && psql --set ON_ERROR_STOP=1 --file citus.sql bbq
--
-- once the worker nodes have been added (citus_add_node), and again after each upgrade; what is distributed already
-- is left alone. history/db/citus.md says what has been run of this, and what has not.
--
-- The four big tables are spread by the job's id, a job with its runs, workers and pauses in one place. What everything
-- is joined with is copied to every machine. The rest stays on the coordinator: the writer's lock and its watermarks
-- (clusters, collections) are there, and the rollup.

BEGIN;

DO $distribute$
DECLARE
    shards CONSTANT int := 16;
    big text;
    small text;
BEGIN
    IF to_regclass('jobs') IS NULL THEN
        RAISE EXCEPTION 'there is no table jobs here: run bbq-history upgrade first';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RAISE EXCEPTION 'the extension citus is not in this database: CREATE EXTENSION citus, on every machine';
    END IF;
    IF NOT EXISTS (SELECT FROM citus_tables WHERE table_name = 'jobs'::regclass) THEN
        PERFORM create_distributed_table('jobs', 'native_id', shard_count => shards);
    END IF;
    FOREACH big IN ARRAY ARRAY['runs', 'run_workers', 'job_pauses'] LOOP
        IF NOT EXISTS (SELECT FROM citus_tables WHERE table_name = big::regclass) THEN
            PERFORM create_distributed_table(big, 'native_id', colocate_with => 'jobs');
        END IF;
    END LOOP;
    FOREACH small IN ARRAY ARRAY['workers', 'worker_states'] LOOP
        IF NOT EXISTS (SELECT FROM citus_tables WHERE table_name = small::regclass) THEN
            PERFORM create_reference_table(small);
        END IF;
    END LOOP;
END
$distribute$;

COMMIT;
