"""urllib3: one deletion, from the start of the program."""

import sys

import urllib3

url, token, id_instance = sys.argv[1:]
response = urllib3.request(
    "POST",
    f"{url}/partner/deleteInstanceAccount/{token}",
    json={"idInstance": int(id_instance)},
    timeout=30,
)
print(response.json()["deleteInstanceAccount"])
