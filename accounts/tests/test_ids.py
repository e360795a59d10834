import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from accounts.ids import uuid7


def test_a_key_is_a_version_7_uuid_of_now():
    before = time.time_ns() // 1_000_000
    key = uuid7()
    after = time.time_ns() // 1_000_000 + 10
    assert key.version == 7
    assert key.variant == uuid.RFC_4122
    assert before <= key.int >> 80 <= after


def test_keys_of_one_process_ascend_and_never_repeat():
    keys = [uuid7() for _ in range(20_000)]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_keys_made_by_several_threads_are_distinct():
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [uuid7() for _ in range(2_000)], range(8)))
    assert len({key for batch in batches for key in batch}) == 16_000


def test_a_forked_process_makes_other_keys_than_its_parent():
    uuid7()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, uuid7().bytes)
        os._exit(0)
    os.waitpid(child, 0)
    random_part = 2**62 - 1
    assert int.from_bytes(os.read(reader, 16), "big") & random_part != uuid7().int & random_part
    os.close(reader)
    os.close(writer)
