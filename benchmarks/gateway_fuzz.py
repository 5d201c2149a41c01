"""Ask the gateway, and its protocol readers, whatever comes out of a seeded generator.

Half of the inputs are requests made from the gateway's own OpenAPI document, right ones and wrong
ones, to an upstream that answers with any bytes; half are bytes for the readers. It stops at the
first failure: an error of the gateway's own (5xx), 30 s without an answer, bytes that a stream
lost, a journal line that cannot be read back.

    python -m benchmarks.gateway_fuzz [--inputs 100000] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.gateway.fuzzing import fuzzed


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, fuzzed(Path(folder), options.seed) as gateway:
        for number in range(options.inputs // 2):
            gateway.request()
            gateway.read()
            if (number + 1) % 5_000 == 0:
                print(f"{2 * (number + 1):,} of {options.inputs:,}", file=sys.stderr, flush=True)
        n_lines = gateway.close()
    took_s = time.monotonic() - began_s
    print(f"{options.inputs:,} inputs in {took_s:.0f} s, seed {options.seed}")
    print(f"statuses {dict(sorted(gateway.statuses.items()))}")
    print(f"{n_lines:,} journal lines, all read back")


if __name__ == "__main__":
    main()
