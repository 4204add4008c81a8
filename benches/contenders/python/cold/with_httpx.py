"""httpx: one deletion, from the start of the program."""

import sys

import httpx

url, token, id_instance = sys.argv[1:]
response = httpx.post(
    f"{url}/partner/deleteInstanceAccount/{token}",
    json={"idInstance": int(id_instance)},
    timeout=30,
)
print(response.json()["deleteInstanceAccount"])
