"""aiohttp: one deletion, from the start of the program."""

import asyncio
import sys

import aiohttp

url, token, id_instance = sys.argv[1:]


async def delete():
    """Deletes the instance."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{url}/partner/deleteInstanceAccount/{token}", json={"idInstance": int(id_instance)}
        ) as response,
    ):
        print((await response.json())["deleteInstanceAccount"])


asyncio.run(delete())
