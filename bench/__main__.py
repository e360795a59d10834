"""A short version of all measurements, some four minutes: `make bench`, or `python -m bench`.

For more, `python -m bench.ingest --help` and `python -m bench.delivery --help`; docs/benchmarks.md says what the
figures mean.
"""

from __future__ import annotations

import sys

from bench import delivery, disk, ingest
from bench.environment import place


def main() -> int:
    small = [ingest.Load(5000, connections, "plain") for connections in (1, 50, 100)]
    others = [ingest.Load(500_000, 50, "plain"), ingest.Load(5000, 50, "tls")]
    reason = disk.why_not()
    if reason:
        print(f"On the disk of temporary files: {reason}.")
    with place(own=not reason) as where:
        ingest.run(where, [*small, *others], processes=[1, 2], modes=["discard", "hold"], rounds=2, seconds=3.0)
    print()
    arguments = ["--seconds", "20", "--processes", "2", *([] if reason else ["--own-disk"])]
    return delivery.run(delivery.parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
