/*
 * Deletes one instance with one call, and prints the result.
 *
 *   cc delete.c -o delete $(pkg-config --cflags --libs greenapi)
 *   GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=... ./delete 1101000001
 *
 * Exit status: 0 the instance is gone, 1 it was not deleted, 3 it may be gone (running again is
 * safe, and shows which), 2 wrong usage.
 */
#include <greenapi.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    const char *url = getenv("GREENAPI_URL");
    const char *token =
        getenv("GREENAPI_TOKEN"); /* never an argument: ps shows those to every user */
    char *end = NULL;
    int64_t id = argc == 2 ? strtoll(argv[1], &end, 10) : 0;

    if (url == NULL || token == NULL || argc != 2 || end == argv[1] || *end != '\0') {
        fprintf(stderr, "usage: GREENAPI_URL=... GREENAPI_TOKEN=... %s ID\n", argv[0]);
        return 2;
    }

    int code;
    greenapi_status status = greenapi_delete_instance(url, token, id, &code);

    printf("%" PRId64 ": %s (%s, code %d)\n", id, greenapi_status_message(status),
           greenapi_status_name(status), code);

    switch (greenapi_status_effect(status)) {
    case GREENAPI_EFFECT_DELETED:
        return 0;
    case GREENAPI_EFFECT_NOT_DELETED:
        return 1;
    default:
        return 3;
    }
}
