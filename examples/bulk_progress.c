/*
 * Deletes many instances with one call. Shows a progress bar on a terminal, and otherwise prints a
 * line for each instance. After Ctrl-C the next result cancels the remaining deletions; every
 * instance still gets its own result.
 *
 *   cc bulk_progress.c -o bulk_progress $(pkg-config --cflags --libs greenapi)
 *   GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=... ./bulk_progress 1101000001 1101000002
 *
 * GREENAPI_CA_FILE, if set, names a PEM file to trust instead of the system's certificates.
 *
 * Exit status: 0 every instance is gone, 1 at least one was not deleted, 3 at least one may be gone
 * (running again is safe, and shows which), 2 wrong usage.
 */
#include <greenapi.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

/* Runs on the thread that called delete_instances, after each result. */
static bool show(size_t done, size_t total, const greenapi_result *last, void *user_data)
{
    const bool *terminal = user_data;

    if (*terminal) {
        enum { WIDTH = 40 };
        int filled = (int)(done * WIDTH / total);
        printf("\r[");
        for (int i = 0; i < WIDTH; i++)
            putchar(i < filled ? '#' : '-');
        printf("] %zu/%zu", done, total);
        if (done == total)
            putchar('\n');
    } else {
        printf("%" PRId64 ": %s\n", last->id, last->message);
    }
    fflush(stdout);
    return !interrupted;
}

int main(int argc, char **argv)
{
    const char *url = getenv("GREENAPI_URL");
    const char *token = getenv("GREENAPI_TOKEN");

    if (url == NULL || token == NULL || argc < 2) {
        fprintf(stderr, "usage: GREENAPI_URL=... GREENAPI_TOKEN=... %s ID...\n", argv[0]);
        return 2;
    }

    int exit_status = 2;
    greenapi_client *client = NULL;
    size_t count = (size_t)argc - 1;
    int64_t *ids = calloc(count, sizeof *ids);
    greenapi_result *results = calloc(count, sizeof *results);
    if (ids == NULL || results == NULL) {
        perror(argv[0]);
        goto cleanup;
    }
    for (size_t i = 0; i < count; i++) {
        char *end;
        ids[i] = strtoll(argv[i + 1], &end, 10);
        if (end == argv[i + 1] || *end != '\0') {
            fprintf(stderr, "%s: %s is not an id: give digits only\n", argv[0], argv[i + 1]);
            goto cleanup;
        }
    }

    greenapi_options options;
    greenapi_options_init(&options, sizeof options);
    options.ca_file = getenv("GREENAPI_CA_FILE");

    greenapi_result problem;
    if (greenapi_client_new(url, token, &options, &client, &problem) != GREENAPI_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], problem.message);
        goto cleanup;
    }

    signal(SIGINT, on_interrupt);
    bool terminal = isatty(STDOUT_FILENO);
    greenapi_client_delete_instances(client, ids, count, results, show, &terminal);

    size_t deleted = 0, unknown = 0;
    for (size_t i = 0; i < count; i++) {
        switch (greenapi_status_effect(results[i].status)) {
        case GREENAPI_EFFECT_DELETED:
            deleted++;
            continue;
        case GREENAPI_EFFECT_NOT_DELETED:
            break;
        default:
            unknown++;
        }
        if (terminal)
            printf("%" PRId64 ": %s\n", results[i].id, results[i].message);
    }
    printf("%zu of %zu deleted, %zu uncertain\n", deleted, count, unknown);
    exit_status = unknown > 0 ? 3 : deleted < count ? 1 : 0;

cleanup:
    greenapi_client_free(client); /* freeing NULL does nothing */
    free(results);
    free(ids);
    return exit_status;
}
