"""Deletes one instance with one call, and says what is certain about it.

    GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=… python delete.py 1101000001

Exit status: 0 the instance is gone, 1 it was not deleted, 3 it may be gone (running again is safe,
and shows which).
"""

import os
import sys

import greenapi


def main() -> int:
    """Deletes the instance that the command line names."""
    id_instance = int(sys.argv[1])
    try:
        greenapi.delete_instance(
            os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"], id_instance
        )
    except greenapi.OutcomeUnknown as error:
        print(f"{id_instance}: {type(error).__name__}: {error}")
        return 3
    except greenapi.Error as error:
        print(f"{id_instance}: {type(error).__name__}: {error}")
        return 1
    print(f"{id_instance}: deleted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
