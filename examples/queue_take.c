/*
 * Deletes many instances at once from one thread: submits them all and takes the results as they
 * come.
 *
 *   cc queue_take.c -o queue_take $(pkg-config --cflags --libs greenapi)
 *   GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=... ./queue_take 1101000001 1101000002
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
    options.ca_file = getenv("GREENAPI_CA_FILE");

    greenapi_client *client;
    greenapi_result problem;
    if (greenapi_client_new(url, token, &options, &client, &problem) != GREENAPI_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], problem.message);
        return 2;
    }

    greenapi_queue *queue;
    greenapi_status status = greenapi_queue_new(&queue);
    if (status != GREENAPI_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], greenapi_status_message(status));
        greenapi_client_free(client);
        return 2;
    }

    int exit_status = 0;
    for (int i = 1; i < argc; i++) {
        char *end;
        int64_t id = strtoll(argv[i], &end, 10);
        if (end == argv[i] || *end != '\0')
            id = 0; /* out of range: the result is GREENAPI_STATUS_INVALID_ARGUMENT */

        /* The result has the same tag; here it is the index of the argument. */
        status = greenapi_queue_submit(queue, client, id, (uint64_t)i);
        if (status != GREENAPI_STATUS_OK) {
            fprintf(stderr, "%s: %s: %s\n", argv[0], argv[i], greenapi_status_message(status));
            exit_status = 1;
        }
    }

    /* Without a time limit, take returns 0 only when no deletion is under way. */
    greenapi_result results[64];
    size_t taken;
    while ((taken = greenapi_queue_take(queue, results, 64, -1)) > 0) {
        for (size_t i = 0; i < taken; i++) {
            printf("%" PRId64 ": %s\n", results[i].id, results[i].message);

            greenapi_effect effect = greenapi_status_effect(results[i].status);
            if (effect == GREENAPI_EFFECT_UNKNOWN)
                exit_status = 3;
            else if (effect == GREENAPI_EFFECT_NOT_DELETED && exit_status == 0)
                exit_status = 1;
        }
    }

    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return exit_status;
}
