"""aiohttp: warm, bulk (tasks), truth.

As https://docs.aiohttp.org/en/stable/client_quickstart.html shows it: one ClientSession for the
program; ``raise_for_status`` reports errors.
"""

import asyncio

import aiohttp

import measure


async def main(plan):
    url = f"{plan.url}/partner/deleteInstanceAccount/{plan.token}"
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:

        async def post(id_instance):
            async with session.post(url, json={"idInstance": id_instance}) as response:
                return await response.read()

        async def call(id_instance):
            return bool(await post(id_instance))

        async def work(ids):
            for id_instance in ids:
                figures.failed += not await call(id_instance)

        if plan.way == "warm":
            await measure.warm_async(plan, call)
        elif plan.way == "bulk":
            ids = iter(plan.ids)
            with measure.Figures(plan) as figures:
                await asyncio.gather(*(work(ids) for _ in range(plan.concurrency)))
        elif plan.way == "truth":
            await truth(session, url, plan)
        else:
            measure.no_such_way(plan)


async def truth(session, url, plan):
    for id_instance in plan.ids:
        try:
            async with session.post(url, json={"idInstance": id_instance}) as response:
                await response.read()
                try:
                    body = await response.json()
                except (aiohttp.ContentTypeError, ValueError):
                    body = None
        except (aiohttp.ClientError, TimeoutError) as error:
            measure.print_word(id_instance, "failed", "failed", str(error) or type(error).__name__)
        else:
            measure.print_word(id_instance, "deleted", measure.word_by_flag(body))


asyncio.run(main(measure.arguments()))
