"""What the ORM can't say: uuid7 in SQL, room for in-page updates, and the immutability of published versions."""

from django.db import migrations

UUID7 = """
CREATE OR REPLACE FUNCTION headrace_uuid7() RETURNS uuid LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS $$
DECLARE
    stamp bytea := substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3);
    value bytea := uuid_send(gen_random_uuid());
BEGIN
    value := overlay(value placing stamp from 1 for 6);
    RETURN encode(set_byte(value, 6, (get_byte(value, 6) & 15) | 112), 'hex')::uuid;
END $$;
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE OR REPLACE FUNCTION headrace_uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
            AS 'SELECT uuidv7()';
    END IF;
END $$;
"""

IMMUTABLE = """
CREATE FUNCTION headrace_refuse_published_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.published_at IS NOT NULL AND (NEW.definition, NEW.checksum, NEW.number, NEW.flow_id, NEW.published_at)
        IS DISTINCT FROM (OLD.definition, OLD.checksum, OLD.number, OLD.flow_id, OLD.published_at) THEN
        RAISE EXCEPTION 'a published flow version is immutable: publish a new version'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER flow_version_immutable BEFORE UPDATE ON headrace_workflows_flowversion
    FOR EACH ROW EXECUTE FUNCTION headrace_refuse_published_change();

CREATE FUNCTION headrace_refuse_published_step_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM headrace_workflows_flowversion
                WHERE id = COALESCE(NEW.version_id, OLD.version_id) AND published_at IS NOT NULL) THEN
        RAISE EXCEPTION 'the steps of a published flow version are immutable: publish a new version'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER step_immutable BEFORE INSERT OR UPDATE ON headrace_workflows_step
    FOR EACH ROW EXECUTE FUNCTION headrace_refuse_published_step_change();
"""

STORAGE = """
ALTER TABLE headrace_workflows_run SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE headrace_workflows_steprun SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
"""

STORAGE_BACK = """
ALTER TABLE headrace_workflows_run RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE headrace_workflows_steprun RESET (fillfactor, autovacuum_vacuum_scale_factor);
"""


class Migration(migrations.Migration):
    replaces = [("workflows", "0002_engine")]
    dependencies = [("headrace_workflows", "0001_initial")]
    operations = [
        migrations.RunSQL(UUID7, "DROP FUNCTION headrace_uuid7()"),
        migrations.RunSQL(
            IMMUTABLE,
            "DROP TRIGGER step_immutable ON headrace_workflows_step;"
            "DROP FUNCTION headrace_refuse_published_step_change();"
            "DROP TRIGGER flow_version_immutable ON headrace_workflows_flowversion;"
            "DROP FUNCTION headrace_refuse_published_change()",
        ),
        migrations.RunSQL(STORAGE, STORAGE_BACK),
    ]
