"""The statements `bench.rows` fills tables with. `%(first)s` to `%(last)s` are the numbers of the messages to make.

Everything about a message follows from its number, by hashes, so that a run can be repeated and cut into pieces. Times
go from `%(start)s` on with days and nights. Recipients, attempts and events are read off the messages.
"""

from __future__ import annotations

FUNCTIONS = """
CREATE OR REPLACE FUNCTION bench_uuid7(moment timestamptz, seed text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex((date_part('epoch', moment) * 1000)::bigint), 12, '0')
          || '7' || substr(md5(seed), 1, 3) || '8' || substr(md5(seed), 4, 15))::uuid $$;
CREATE OR REPLACE FUNCTION bench_part(number bigint, salt int) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
  SELECT (hashint8extended(number, salt) & 1048575) / 1048576.0::float8 $$;
CREATE OR REPLACE FUNCTION bench_of(key uuid, salt int) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
  SELECT (uuid_hash_extended(key, salt) & 1048575) / 1048576.0::float8 $$;
CREATE OR REPLACE FUNCTION bench_list(counts jsonb, highest int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT jsonb_agg(coalesce((counts ->> n::text)::int, 0) ORDER BY n) FROM generate_series(0, highest) AS n $$;
"""

MESSAGES = """
WITH numbered AS (
  SELECT i, %(start)s::timestamptz + make_interval(secs => 86400 * (%(days)s * i::float8 / %(all)s
      - 0.11 * sin(6.283185307 * %(days)s * i::float8 / %(all)s))) AS at,
    width_bucket(bench_part(i, 1), %(shares)s::float8[]) + 1 AS t, i >= %(all)s - 2000 AS young,
    bench_part(i, 2) AS of_account, bench_part(i, 3) AS of_status, bench_part(i, 4) AS of_subject,
    bench_part(i, 5) AS of_count, bench_part(i, 6) AS of_size
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i
), chosen AS (
  SELECT *, CASE WHEN young AND of_status < 0.5 THEN 'queued' WHEN young AND of_status < 0.6 THEN 'retrying'
    WHEN of_status < 0.935 THEN 'delivered' WHEN of_status < 0.965 THEN 'failed'
    WHEN of_status < 0.970 THEN 'partial'
    WHEN of_status < 0.980 THEN 'dlq' WHEN of_status < 0.9805 THEN 'storage_error'
    WHEN of_status < 0.990 THEN 'rejected' WHEN of_status < 0.995 THEN 'discarded'
    WHEN of_status < 0.998 THEN 'cancelled' ELSE 'held' END AS status,
    CASE WHEN of_count < 0.93 THEN 1 WHEN of_count < 0.99 THEN 2 ELSE 5 END AS recipients
  FROM numbered
), made AS (
  SELECT *, bench_uuid7(at, 'm' || i) AS key, status IN ('queued', 'retrying') AS due,
    'app' || (1 + floor(5 * of_account * of_account)) || '@' || (%(slugs)s::text[])[t] || '.example' AS sender
  FROM chosen
)
INSERT INTO delivery_message ({columns}) SELECT {values} FROM made
"""

MESSAGE_COLUMNS = {
    "id": "key",
    "tenant_id": "(%(tenants)s::uuid[])[t]",
    "account_id": "(%(accounts)s::uuid[])[(t - 1) * 5 + 1 + floor(5 * of_account * of_account)::int]",
    "status": "status",
    "status_reason": "CASE status WHEN 'dlq' THEN 'All tries used up.' WHEN 'held' THEN 'Held by a rule.' ELSE '' END",
    "source": "CASE WHEN of_size < 0.8 THEN 'smtp' WHEN of_size < 0.95 THEN 'http' ELSE 'amqp' END",
    "mail_from": "sender",
    "header_from": "sender",
    "subject": """CASE floor(of_subject * 8)::int WHEN 0 THEN 'Your order ' || (100000 + i) || ' has shipped'
      WHEN 1 THEN 'Invoice ' || i || ' for ' || to_char(at, 'FMMonth YYYY') WHEN 2 THEN 'Reset your password'
      WHEN 3 THEN 'Weekly news, issue ' || to_char(at, 'IW') WHEN 4 THEN 'Welcome to ' || (%(slugs)s::text[])[t]
      WHEN 5 THEN 'Reminder: appointment on ' || to_char(at, 'DD Mon') WHEN 6 THEN 'Code ' || (i * 7919 %% 1000000)
      ELSE 'Ticket #' || (i / 3) || ' was answered' END""",
    "message_id_header": "'<' || md5('h' || i) || '@' || (%(slugs)s::text[])[t] || '.example>'",
    "size": "(1500 + 40000 * of_size * of_size * of_size)::int",
    "recipient_count": "recipients",
    "has_attachments": "of_size > 0.9",
    "queue": "'outbound.fresh'",
    "store_key": "to_char(at, 'YYYY/MM/DD/') || key",
    "client_ip": "('192.0.2.' || (i %% 250))::inet",
    "session_id": "md5('s' || (i / 5))",
    "accepted_at": "at",
    # Far ahead: nothing that looks for due mail finds any.
    "next_attempt_at": "CASE WHEN due THEN at + interval '10 years' END",
    "tries": "CASE WHEN status = 'dlq' THEN 5 WHEN status = 'retrying' THEN 1 ELSE 0 END",
    "attempts": """CASE WHEN status IN ('queued', 'rejected', 'discarded', 'cancelled', 'held', 'storage_error') THEN 0
      WHEN status = 'dlq' THEN 6 WHEN of_account > 0.96 AND status <> 'retrying' THEN 2 ELSE 1 END""",
    "finished_at": "CASE WHEN NOT due AND status <> 'held' THEN at + interval '2 seconds' END",
}

OF_MESSAGES = """
INSERT INTO {table} ({columns}) SELECT {values}
FROM delivery_message AS m {join}
WHERE m.id >= bench_uuid7(%(since)s::timestamptz - interval '1 second', '')
  AND m.id < bench_uuid7(%(until)s::timestamptz + interval '1 second', '') AND m.accepted_at >= %(since)s
  AND m.accepted_at < %(until)s ORDER BY m.id
"""

RECIPIENTS_JOIN = """CROSS JOIN LATERAL (SELECT n, bench_of(m.id, 10 + n) AS who
  FROM generate_series(1, m.recipient_count) AS n) AS r"""

RECIPIENT_COLUMNS = {
    "id": "bench_uuid7(m.accepted_at, 'r' || n || m.id)",
    "message_id": "m.id",
    # One in two hundred goes to an address that gets a lot, the others to one of a million.
    "address": """CASE WHEN who < 0.005 AND n = 1 THEN 'everything@archive.example'
      ELSE 'person' || floor(who * 1000000)::int || '-' || n || '@d' || floor(who * 1000)::int || '.example' END""",
    "status": """CASE WHEN m.status = 'delivered' OR (m.status = 'partial' AND n = 1) THEN
        CASE WHEN who < 0.6 THEN 'confirmed' ELSE 'delivered' END
      WHEN m.status IN ('failed', 'partial') THEN CASE WHEN who < 0.5 THEN 'bounced' ELSE 'failed' END
      WHEN m.status = 'dlq' THEN 'failed' WHEN m.status = 'retrying' THEN 'deferred' ELSE 'pending' END""",
    "provider_id": """CASE WHEN m.status IN ('delivered', 'partial', 'failed') THEN
      (%(providers)s::uuid[])[(array_position(%(tenants)s::uuid[], m.tenant_id) - 1) * 2 + 1 + (who > 0.8)::int] END""",
    "provider_message_id": "CASE WHEN m.status IN ('delivered', 'partial') THEN md5('p' || m.id) ELSE '' END",
    "error_code": "CASE WHEN m.status IN ('failed', 'dlq') THEN '550' ELSE '' END",
    "error_text": "CASE WHEN m.status IN ('failed', 'dlq') THEN '5.1.1 No such mailbox' ELSE '' END",
    "delivered_at": "CASE WHEN m.status = 'delivered' THEN m.finished_at END",
    "updated_at": "coalesce(m.finished_at, m.accepted_at)",
}

LOGS_JOIN = """CROSS JOIN LATERAL (SELECT n, bench_of(m.id, 11) AS who, bench_of(m.id, 20 + n) AS pace,
    m.accepted_at + make_interval(secs => 1 + 300 * (n - 1)) AS at,
    CASE WHEN n < m.attempts OR m.status = 'retrying' THEN 'retrying' ELSE m.status END AS attempt
  FROM generate_series(1, m.attempts) AS n) AS a"""

LOG_COLUMNS = {
    "id": "bench_uuid7(at, 'l' || n || m.id)",
    "message_id": "m.id",
    "tenant_id": "m.tenant_id",
    "account_id": "m.account_id",
    "provider_id": """
      (%(providers)s::uuid[])[(array_position(%(tenants)s::uuid[], m.tenant_id) - 1) * 2 + 1 + (who > 0.8)::int]""",
    "provider_name": "CASE WHEN who > 0.8 THEN 'Fallback' ELSE 'Main' END",
    "provider_type": "CASE WHEN who > 0.8 THEN 'smtp' ELSE 'sendgrid' END",
    "status": "attempt",
    "attempt_number": "n",
    "idempotency_key": "bench_uuid7(at, 'l' || n || m.id)",
    "recipients": """jsonb_build_array(
      'person' || floor(who * 1000000)::int || '-1@d' || floor(who * 1000)::int || '.example')""",
    "fidelity": "'lossless'",
    "provider_message_id": "CASE WHEN attempt IN ('delivered', 'partial') THEN md5('p' || m.id) ELSE '' END",
    "response_code": "CASE attempt WHEN 'delivered' THEN 202 WHEN 'retrying' THEN 429 ELSE 400 END",
    "error_code": "CASE attempt WHEN 'delivered' THEN '' WHEN 'retrying' THEN 'rate_limited' ELSE 'refused' END",
    "error_text": "CASE attempt WHEN 'delivered' THEN '' WHEN 'retrying' THEN 'Too many requests' ELSE 'Refused' END",
    "duration_ms": "(30 + 600 * pace * pace * pace)::int",
    "created_at": "at",
    "finished_at": "at + make_interval(secs => 0.03 + 0.6 * pace * pace * pace)",
}

EVENTS_JOIN = """CROSS JOIN LATERAL (
    SELECT 'received' AS kind, m.accepted_at AS at, '' AS told
    UNION ALL SELECT CASE WHEN m.status IN ('dlq', 'storage_error') THEN 'dead_letter' ELSE m.status END,
      coalesce(m.finished_at, m.accepted_at), '' WHERE m.status <> 'queued'
    UNION ALL SELECT 'confirmed', m.finished_at + interval '3 seconds', md5('c' || m.id)
      WHERE m.status = 'delivered' AND bench_of(m.id, 11) < 0.5
    UNION ALL SELECT 'bounced', m.finished_at + interval '5 seconds', md5('b' || m.id)
      WHERE m.status = 'delivered' AND bench_of(m.id, 11) > 0.99) AS e"""

EVENT_COLUMNS = {
    "id": "bench_uuid7(at, kind || m.id)",
    "tenant_id": "m.tenant_id",
    "message_id": "m.id",
    "provider_id": """CASE WHEN told <> '' THEN
      (%(providers)s::uuid[])[(array_position(%(tenants)s::uuid[], m.tenant_id) - 1) * 2 + 1] END""",
    "type": "kind",
    "data": """CASE WHEN kind = 'dead_letter' THEN jsonb_build_object('reason',
      CASE m.status WHEN 'dlq' THEN 'tries' ELSE m.status END) ELSE '{{}}'::jsonb END""",
    "provider_event_id": "told",
    "occurred_at": "at",
}

TOTAL_COLUMNS = (
    "id, hour, tenant_id, account_id, provider_id, provider_name, what, count, recipients, octets,"
    " duration_ms, durations"
)

TOTALS_OF_EVENTS = f"""
INSERT INTO delivery_total ({TOTAL_COLUMNS})
SELECT bench_uuid7(hour, random()::text), hour, tenant_id, account_id, provider_id, name, what, count(*),
  CASE WHEN provider_id IS NULL THEN sum(recipient_count) ELSE count(*) END, sum(size), 0, '[]'
FROM (SELECT date_trunc('hour', e.occurred_at) AS hour, e.tenant_id, m.account_id, e.provider_id,
    CASE WHEN e.provider_id IS NULL THEN '' ELSE 'Main' END AS name, m.recipient_count, m.size,
    CASE WHEN e.provider_id IS NOT NULL THEN 'told_' || e.type WHEN e.type = 'received' THEN 'accepted'
      WHEN e.type = 'dead_letter' THEN m.status ELSE e.type END AS what
  FROM delivery_event AS e JOIN delivery_message AS m ON m.id = e.message_id
  WHERE e.id >= bench_uuid7(%(since)s, '') AND e.id < bench_uuid7(%(until)s, '')
    AND e.occurred_at >= %(since)s AND e.occurred_at < %(until)s AND e.type NOT IN ('held', 'retrying')) AS told
GROUP BY hour, tenant_id, account_id, provider_id, name, what
"""

TOTALS_OF_LOGS = f"""
INSERT INTO delivery_total ({TOTAL_COLUMNS})
SELECT bench_uuid7(hour, random()::text), hour, tenant_id, account_id, provider_id, provider_name, what, sum(calls),
  sum(calls), sum(octets), sum(duration), bench_list(jsonb_object_agg(bound, calls), max(bound))
FROM (SELECT date_trunc('hour', l.created_at) AS hour, l.tenant_id, l.account_id, l.provider_id, l.provider_name,
    'attempt_' || l.status AS what, floor(ln(greatest(l.duration_ms, 1)) * 4 / ln(2))::int AS bound, count(*) AS calls,
    sum(m.size) AS octets, sum(l.duration_ms) AS duration
  FROM delivery_deliverylog AS l JOIN delivery_message AS m ON m.id = l.message_id
  WHERE l.id >= bench_uuid7(%(since)s, '') AND l.id < bench_uuid7(%(until)s, '')
    AND l.created_at >= %(since)s AND l.created_at < %(until)s
  GROUP BY 1, 2, 3, 4, 5, 6, 7) AS timed
GROUP BY hour, tenant_id, account_id, provider_id, provider_name, what
"""
