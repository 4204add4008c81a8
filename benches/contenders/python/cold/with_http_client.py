"""http.client: one deletion, from the start of the program."""

import http.client
import json
import sys
from urllib.parse import urlsplit

url, token, id_instance = sys.argv[1:]
connection = http.client.HTTPSConnection(urlsplit(url).netloc, timeout=30)
connection.request(
    "POST",
    f"/partner/deleteInstanceAccount/{token}",
    json.dumps({"idInstance": int(id_instance)}),
    {"Content-Type": "application/json"},
)
print(json.loads(connection.getresponse().read())["deleteInstanceAccount"])
