"""greenapi: one deletion, from the start of the program."""

import sys

import greenapi

url, token, id_instance = sys.argv[1:]
print(greenapi.delete_instance(url, token, int(id_instance)).ok)
