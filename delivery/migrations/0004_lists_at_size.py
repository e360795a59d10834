

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0004_sign_in'),
        ('delivery', '0003_any_broker'),
        ('providers', '0002_every_provider'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='deliverylog',
            name='delivery_log_account',
        ),
        migrations.RemoveIndex(
            model_name='deliverylog',
            name='delivery_log_tenant',
        ),
        migrations.AddIndex(
            model_name='deliverylog',
            index=models.Index(fields=['account', '-id'], name='delivery_log_account_list'),
        ),
        migrations.AddIndex(
            model_name='deliverylog',
            index=models.Index(fields=['tenant', '-id'], name='delivery_log_tenant_list'),
        ),
        migrations.AddIndex(
            model_name='deliverylog',
            index=models.Index(condition=models.Q(('status__in', ['sending', 'partial', 'failed', 'retrying', 'dlq', 'unknown'])), fields=['tenant', 'status', '-id'], name='delivery_log_tenant_rare'),
        ),
        migrations.AddIndex(
            model_name='deliverylog',
            index=models.Index(condition=models.Q(('status__in', ['sending', 'partial', 'failed', 'retrying', 'dlq', 'unknown'])), fields=['status', '-id'], name='delivery_log_rare'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(condition=models.Q(('type__in', ['scheduled', 'held', 'released', 'retrying', 'partial', 'failed', 'rejected', 'discarded', 'cancelled', 'dead_letter', 'suppressed', 'deferred', 'bounced', 'complained', 'unsubscribed'])), fields=['tenant', 'type', '-id'], name='event_tenant_rare'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(condition=models.Q(('type__in', ['scheduled', 'held', 'released', 'retrying', 'partial', 'failed', 'rejected', 'discarded', 'cancelled', 'dead_letter', 'suppressed', 'deferred', 'bounced', 'complained', 'unsubscribed'])), fields=['type', '-id'], name='event_rare'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(fields=['message_id_header'], name='message_message_id'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(fields=['mail_from', '-id'], name='message_sender'),
        ),
    ]
