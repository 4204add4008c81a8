"""greenapi's AsyncClient: warm, bulk (tasks that await single calls), bulk-iterator.

As its documentation shows: an async context manager, used by any number of tasks.
"""

import asyncio
import os

import greenapi

import measure


async def main(plan):
    async with greenapi.AsyncClient(
        plan.url,
        plan.token,
        ca_file=os.environ.get("SSL_CERT_FILE"),
        max_in_flight=plan.concurrency,
    ) as client:

        async def call(id_instance):
            return (await client.delete_instance(id_instance)).ok

        async def work(ids):
            for id_instance in ids:
                figures.failed += not await call(id_instance)

        if plan.way == "warm":
            await measure.warm_async(plan, call)
        elif plan.way == "bulk":
            ids = iter(plan.ids)
            with measure.Figures(plan) as figures:
                await asyncio.gather(*(work(ids) for _ in range(plan.concurrency)))
        elif plan.way == "bulk-iterator":
            with measure.Figures(plan) as figures:
                async for result in client.delete_instances(plan.ids):
                    figures.failed += not result.ok
        else:
            measure.no_such_way(plan)


asyncio.run(main(measure.arguments()))
