/*
 * Logs instances out and deletes them, because deleting does not log out the phone of an instance.
 *
 *   cc delete_checked.c -o delete_checked $(pkg-config --cflags --libs greenapi)
 *   GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=... ./delete_checked 1101000001
 *
 * GREENAPI_CA_FILE, if set, names a PEM file to trust instead of the system's certificates.
 *
 * Exit status: 0 every instance is gone, 1 at least one was not deleted, 3 at least one may be gone
 * (running again is safe, and shows which), 2 wrong usage.
 */
#include <greenapi.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    const char *url = getenv("GREENAPI_URL");
    const char *token = getenv("GREENAPI_TOKEN");

    if (url == NULL || token == NULL || argc < 2) {
        fprintf(stderr, "usage: GREENAPI_URL=... GREENAPI_TOKEN=... %s ID...\n", argv[0]);
        return 2;
    }

    greenapi_options options;
    greenapi_options_init(&options, sizeof options);
    options.session = GREENAPI_SESSION_LOG_OUT; /* _REQUIRE_LOGGED_OUT would refuse instead */
    options.ca_file = getenv("GREENAPI_CA_FILE");

    greenapi_client *client;
    greenapi_result result;
    if (greenapi_client_new(url, token, &options, &client, &result) != GREENAPI_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], result.message);
        return 2;
    }

    int exit_status = 0;
    for (int i = 1; i < argc; i++) {
        char *end;
        int64_t id = strtoll(argv[i], &end, 10);
        if (end == argv[i] || *end != '\0') {
            fprintf(stderr, "%s: %s is not an id: give digits only\n", argv[0], argv[i]);
            exit_status = 2;
            break;
        }

        greenapi_client_delete_instance(client, id, &result);
        printf("%" PRId64 ": %s\n", result.id, result.message);

        greenapi_effect effect = greenapi_status_effect(result.status);
        if (effect == GREENAPI_EFFECT_UNKNOWN)
            exit_status = 3;
        else if (effect == GREENAPI_EFFECT_NOT_DELETED && exit_status == 0)
            exit_status = 1;
    }

    greenapi_client_free(client);
    return exit_status;
}
