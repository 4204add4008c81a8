"""requests: one deletion, from the start of the program."""

import sys

import requests

url, token, id_instance = sys.argv[1:]
response = requests.post(
    f"{url}/partner/deleteInstanceAccount/{token}",
    json={"idInstance": int(id_instance)},
    timeout=30,
)
print(response.json()["deleteInstanceAccount"])
