"""Deletes instances with asyncio, several at once, and logs them out first.

    GREENAPI_TOKEN=… python delete_async.py 1101000001 1101000002

GREENAPI_URL names another host than the universal one. The exit status is 0 when every instance
is gone, 1 otherwise.
"""

import asyncio
import os
import sys

import greenapi


async def delete(ids: list[int]) -> int:
    """Deletes the instances; returns how many are not known to be gone."""
    url = os.environ.get("GREENAPI_URL", "https://api.green-api.com")
    failures = 0
    # Without this policy the phones stay logged in to deleted instances.
    async with greenapi.AsyncClient(
        url, os.environ["GREENAPI_TOKEN"], session="log_out", max_in_flight=16
    ) as client:
        async for result in client.delete_instances(ids):
            if result.ok:
                print(f"{result.id_instance}: gone")
            elif result.effect is greenapi.Effect.UNKNOWN:
                print(f"{result.id_instance}: perhaps gone, run again: {result.message}")
                failures += 1
            else:
                print(f"{result.id_instance}: not deleted: {result.message}")
                failures += 1
    return failures


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: delete_async.py ID...")
    sys.exit(1 if asyncio.run(delete([int(text) for text in sys.argv[1:]])) else 0)
