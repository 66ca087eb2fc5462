"""Where jobs came from; and the audit log, which the changes of jobs become part of."""

import hashlib
import json
from datetime import UTC

from django.db import migrations, models

TABLE = "daemon_changes"
REFUSED = "rows of the audit log are only ever added"
SQLITE = (
    f"CREATE TRIGGER {TABLE}_no_update BEFORE UPDATE ON {TABLE} "
    f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
    f"CREATE TRIGGER {TABLE}_no_delete BEFORE DELETE ON {TABLE} "
    f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
    # INSERT OR REPLACE deletes without a word to the trigger above.
    f"CREATE TRIGGER {TABLE}_no_replace BEFORE INSERT ON {TABLE} "
    f"WHEN EXISTS (SELECT 1 FROM {TABLE} WHERE id = NEW.id OR previous = NEW.previous) "
    f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END",
)
POSTGRESQL = (
    f"CREATE FUNCTION {TABLE}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{REFUSED}'; END $$",
    f"CREATE TRIGGER {TABLE}_no_change BEFORE UPDATE OR DELETE ON {TABLE} "
    f"FOR EACH ROW EXECUTE FUNCTION {TABLE}_refuse()",
    f"CREATE TRIGGER {TABLE}_no_truncate BEFORE TRUNCATE ON {TABLE} "
    f"FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_refuse()",
)
GONE = {
    "sqlite": tuple(
        f"DROP TRIGGER IF EXISTS {TABLE}_{name}" for name in ("no_update", "no_delete", "no_replace")
    ),
    "postgresql": (
        f"DROP TRIGGER IF EXISTS {TABLE}_no_change ON {TABLE}",
        f"DROP TRIGGER IF EXISTS {TABLE}_no_truncate ON {TABLE}",
        f"DROP FUNCTION IF EXISTS {TABLE}_refuse",
    ),
}
# A later migration that makes SQLite build this table anew has to lock it again: see `lock`.
KEPT = {"sqlite": SQLITE, "postgresql": POSTGRESQL}


def lock(_apps, schema_editor):
    """Let the database refuse to change or delete a row of the audit log."""
    for statement in KEPT.get(schema_editor.connection.vendor, ()):
        schema_editor.execute(statement)


def unlock(_apps, schema_editor):
    """Take that back."""
    for statement in GONE.get(schema_editor.connection.vendor, ()):
        schema_editor.execute(statement)


def chain(apps, _schema_editor):
    """Give the changes that are there their places in the chain."""
    rows = apps.get_model("daemon_app", "Change").objects
    last = ""
    for row in rows.order_by("id").iterator(chunk_size=2000):
        told = {
            "at": row.at.astimezone(UTC).isoformat(timespec="microseconds"),
            **{name: getattr(row, name) for name in ("by", "via", "address")},
            "token": row.token_id,
            **{name: getattr(row, name) for name in ("kind", "subject", "subject_id")},
            **{name: getattr(row, name) for name in ("name", "version", "fields")},
        }
        text = json.dumps([last, told], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        rows.filter(pk=row.pk).update(previous=last, digest=digest)
        last = digest


class Migration(migrations.Migration):

    dependencies = [
        ('daemon_app', '0004_dashboard'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='origin',
            field=models.CharField(blank=True, db_index=True, editable=False, max_length=60),
        ),
        migrations.RemoveIndex(model_name='change', name='daemon_changes_job'),
        migrations.RenameField(model_name='change', old_name='job_id', new_name='subject_id'),
        migrations.RenameField(model_name='change', old_name='job_name', new_name='name'),
        migrations.AlterModelOptions(
            name='change',
            options={'ordering': ['-id'], 'verbose_name': 'entry of the audit log', 'verbose_name_plural': 'audit log'},
        ),
        migrations.AddField(
            model_name='change',
            name='address',
            field=models.CharField(blank=True, max_length=45, verbose_name='address'),
        ),
        migrations.AddField(
            model_name='change',
            name='digest',
            field=models.CharField(default='', editable=False, max_length=64),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='change',
            name='previous',
            field=models.CharField(default='', editable=False, max_length=64),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name='change',
            name='subject',
            field=models.CharField(choices=[('job', 'job'), ('run', 'run'), ('pool', 'pool'), ('policy', 'rules for all jobs'), ('hold', 'holding everything'), ('presence', 'presence'), ('incident', 'incident'), ('account', 'account'), ('token', 'token')], default='job', max_length=10, verbose_name='subject'),
        ),
        migrations.AddField(
            model_name='change',
            name='token_id',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='change',
            name='via',
            field=models.CharField(blank=True, choices=[('page', 'page'), ('api', 'REST interface'), ('cli', 'command line'), ('admin', 'administration'), ('daemon', 'by itself')], max_length=10, verbose_name='way'),
        ),
        migrations.AlterField(
            model_name='change',
            name='kind',
            field=models.CharField(choices=[('created', 'created'), ('edited', 'edited'), ('on', 'switched on'), ('off', 'switched off'), ('paused', 'paused'), ('resumed', 'resumed after its pause'), ('deleted', 'deleted'), ('muted', 'failures not told any more'), ('unmuted', 'failures told again'), ('started', 'started'), ('cancelled', 'cancelled'), ('forced', 'let start whatever its conditions say'), ('moved', 'moved in the line'), ('held', 'everything held'), ('released', 'let everything go on'), ('said', 'said to be here or away'), ('seen', 'marked as seen'), ('unseen', 'marked as not seen'), ('link', 'one-time link made'), ('signed_in', 'signed in'), ('signed_out', 'signed out'), ('revoked', 'revoked')], max_length=12, verbose_name='what'),
        ),
        migrations.AlterField(
            model_name='change',
            name='name',
            field=models.CharField(blank=True, max_length=150, verbose_name='name'),
        ),
        migrations.AlterField(
            model_name='change',
            name='subject_id',
            field=models.BigIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name='change',
            name='version',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddIndex(
            model_name='change',
            index=models.Index(fields=['subject', 'subject_id', '-id'], name='daemon_changes_subject'),
        ),
        migrations.AddIndex(
            model_name='change',
            index=models.Index(fields=['by', '-id'], name='daemon_changes_by'),
        ),
        migrations.RunPython(chain, migrations.RunPython.noop, elidable=False),
        migrations.AlterField(
            model_name='change',
            name='previous',
            field=models.CharField(editable=False, max_length=64, unique=True),
        ),
        migrations.RunPython(lock, unlock),
    ]
