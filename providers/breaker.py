"""The circuit breaker of every provider as all workers share it: closed, open, half-open (PRV-10).

It lives in the shared store and may be forgotten at any time; `providers.health` says what is left then. Each step is
one script, which the server runs as a whole, so that of many workers one opens, one probes and one closes. Times are
microseconds since 1970 by the server's clock.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.conf import settings

from accounts import shared_state
from accounts.shared_state import Script
from providers.models import Provider

FAILURES = 3
"""Failures in a row, of the service's own making, that open it."""
FIRST_PAUSE = 30.0
"""Seconds of the first pause; each further one is twice as long, up to `DELIVERY_UNHEALTHY_PAUSE`."""
CALM = 600.0
"""Seconds a closed breaker must have stayed closed for its next pause to be the shortest again."""
FLAPS = 2
"""Openings, each within CALM of the closing before, after which one success no longer closes it."""
SUCCESSES = 3
"""Probes that must go through, one after the other, to close one that has flapped so often."""
FAILURES_COUNT_FOR = 3600.0
"""Seconds after which a failure is forgotten when nothing at all has happened since."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Answer(NamedTuple):
    """`word` says what the step has done or found. `until` is when the pause ends, `opening` names this opening, as
    the right to probe does, and `since` is when the provider was last healthy; None or "" while closed."""

    word: str
    until: datetime | None
    opening: str
    since: datetime | None


# KEYS: the state, and the failures in a row (member: what failed, score: when). ARGV[1]: version of the provider row.
# The fields of a state: `version`; while open `until`, `opening`, `since`, `probe` (when the right to probe ends) and
# `won` (probes that went through); `level` (pauses so far), `flaps`, `closed` (the `until` of the opening that was
# closed last), `closed_at`, and `alive` (the last success).
_COMMON = """
local state, failed = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local function get(field) return tonumber(redis.call('HGET', state, field) or 0) end
local function set(...) redis.call('HSET', state, ...) end
local version = get('version')
local stale = tonumber(ARGV[1]) < version
if tonumber(ARGV[1]) > version then
    -- The row has been saved: what was known of its old settings is void.
    redis.call('DEL', state, failed)
    set('version', ARGV[1])
end
redis.call('PEXPIRE', state, 86400000)
local pause = get('until')
local function mine(token) return token ~= '' and tonumber(token) == get('opening') end
local function answer(word)
    return {word, redis.call('HGET', state, 'until'), redis.call('HGET', state, 'opening'),
            redis.call('HGET', state, 'since')}
end
"""

_ADMIT = Script(
    _COMMON
    + """
local row, term = tonumber(ARGV[2]), tonumber(ARGV[3])
if not stale and row > math.max(pause, get('closed')) then
    -- The row knows of an opening that this server does not: it has lost its memory, or was away.
    if pause == 0 then set('opening', now) end
    set('until', ARGV[2])
    pause = row
end
if pause == 0 then return answer('closed') end
if now < pause then return answer('open') end
if now < get('probe') then return answer('probing') end
set('probe', now + term)
return answer('probe')
"""
)

_FAILED = Script(
    _COMMON
    + """
local token, member, age = ARGV[2], ARGV[3], tonumber(ARGV[4])
local limit, first, longest, least = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local calm = tonumber(ARGV[9])
if stale then return answer('stale') end
local function open(word)
    local level = get('level')
    local span = math.max(math.min(first * 2 ^ math.min(level, 30), longest), least)
    set('opening', now, 'level', level + 1, 'until', now + span)
    if get('since') == 0 then set('since', now) end
    redis.call('HDEL', state, 'probe', 'won')
    redis.call('DEL', failed)
    return answer(word)
end
if pause > 0 then
    return mine(token) and open('reopened') or answer('open')
end
if age >= 0 then set('alive', math.max(get('alive'), now - age)) end
redis.call('ZREMRANGEBYSCORE', failed, '-inf', get('alive'))
redis.call('ZADD', failed, now, member)
redis.call('PEXPIRE', failed, ARGV[10])
if redis.call('ZCARD', failed) < limit then return answer('closed') end
if now - get('closed_at') > calm then
    redis.call('HDEL', state, 'level', 'flaps')
else
    redis.call('HINCRBY', state, 'flaps', 1)
end
return open('opened')
"""
)

_SUCCEEDED = Script(
    _COMMON
    + """
local token, flaps, successes = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if stale then return answer('stale') end
if pause == 0 then
    set('alive', now)
    redis.call('DEL', failed)
    return answer('closed')
end
-- A call begun before the pause says nothing of now; one that was let through after it does, with a token or without.
if not (mine(token) or (token == '' and now >= pause)) then return answer('open') end
redis.call('HDEL', state, 'probe')
if redis.call('HINCRBY', state, 'won', 1) < (get('flaps') >= flaps and successes or 1) then return answer('open') end
local before = answer('restored')
set('closed', pause, 'closed_at', now, 'alive', now)
redis.call('HDEL', state, 'until', 'opening', 'since', 'won')
return before
"""
)

_GIVE_BACK = Script(_COMMON + "if mine(ARGV[2]) then redis.call('HDEL', state, 'probe') end return answer('done')")

_END_PAUSE = Script(
    _COMMON
    + """
if pause > now then set('until', now) end
redis.call('HDEL', state, 'probe')
return answer('done')
"""
)


def admit(provider: Provider) -> Answer:
    """Whether a call may begin: `closed` (yes), `open`, `probing` (no), or `probe`: yes, and nobody else may until
    the call has been told of, given back, or two provider timeouts are over (its worker may be dead).

    An opening that only the row tells of is taken over from it.
    """
    row = _microseconds(provider.unhealthy_until) if provider.unhealthy_until else 0
    return _run(_ADMIT, provider, row, _span(settings.PROVIDER_TIMEOUT * 2))


class Failure(NamedTuple):
    """A failure of the service's own making. The same `what` counts once. `at_once` opens without waiting for more, for
    the longest pause; `at_least` is the shortest pause in seconds that will do."""

    what: str
    at_once: bool = False
    at_least: float = 0.0


def failed(provider: Provider, failure: Failure, token: str = "", *, last_success: float | None = None) -> Answer:
    """A call failed. `last_success` is a success not yet told of, by `time.monotonic()`.

    Answers `closed` (counted), `opened`, `reopened` (the probe of this token failed), `open` (it
    was already), or `stale` (the row has been saved since the call began).
    """
    age = -1 if last_success is None else _span(time.monotonic() - last_success)
    longest = _span(settings.DELIVERY_UNHEALTHY_PAUSE)
    first, limit = (longest, 1) if failure.at_once else (_span(FIRST_PAUSE), FAILURES)
    pauses = (first, longest, _span(failure.at_least))
    forget = int(FAILURES_COUNT_FOR * 1000)
    return _run(_FAILED, provider, token, failure.what, age, limit, *pauses, _span(CALM), forget)


def succeeded(provider: Provider, token: str = "") -> Answer:
    """The service answered. Answers `closed`, `restored` (closed by this success; with the times of the opening it
    ends), `open` (not closed by it) or `stale`."""
    return _run(_SUCCEEDED, provider, token, FLAPS, SUCCESSES)


def give_back(provider: Provider, token: str) -> None:
    """The right to probe was not used, or showed nothing: the next message may have it."""
    _run(_GIVE_BACK, provider, token)


def end_pause(provider: Provider) -> Answer:
    """The next message probes."""
    return _run(_END_PAUSE, provider)


def _run(script: Script, provider: Provider, *args: object) -> Answer:
    names = [shared_state.key("health", provider.pk), shared_state.key("health", provider.pk, "failed")]
    word, until, opening, since = script(names, [_microseconds(provider.updated_at), *args])
    return Answer(word.decode(), _time(until), opening.decode() if opening else "", _time(since))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _span(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _time(microseconds: bytes | None) -> datetime | None:
    return _EPOCH + int(float(microseconds)) * _MICROSECOND if microseconds else None
