/*
 * Deletes many instances from an epoll loop, like a server: one thread watches two descriptors, one
 * for the results and one for Ctrl-C, which cancels the remaining deletions.
 *
 *   cc queue_epoll.c -o queue_epoll $(pkg-config --cflags --libs greenapi)
 *   GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=... ./queue_epoll 1101000001 1101000002
 *
 * GREENAPI_CA_FILE, if set, names a PEM file to trust instead of the system's certificates.
 *
 * Exit status: 0 every instance is gone, 1 at least one was not deleted, 3 at least one may be gone
 * (running again is safe, and shows which), 2 wrong usage.
 */
#include <errno.h>
#include <greenapi.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { TAG = 1 }; /* one tag for all deletions, so that one call cancels them all */

static void watch(int loop, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(loop, EPOLL_CTL_ADD, descriptor, &event) < 0) {
        perror("epoll_ctl");
        exit(2);
    }
}

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

    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);
    int interrupts = signalfd(-1, &interrupt, SFD_CLOEXEC | SFD_NONBLOCK);
    int loop = epoll_create1(EPOLL_CLOEXEC);
    watch(loop, interrupts);
    watch(loop, greenapi_queue_fd(queue));

    int exit_status = 0;
    size_t under_way = 0;
    for (int i = 1; i < argc; i++) {
        char *end;
        int64_t id = strtoll(argv[i], &end, 10);
        if (end == argv[i] || *end != '\0')
            id = 0; /* out of range: the result is GREENAPI_STATUS_INVALID_ARGUMENT */

        status = greenapi_queue_submit(queue, client, id, TAG);
        if (status == GREENAPI_STATUS_OK) {
            under_way++;
        } else {
            fprintf(stderr, "%s: %s: %s\n", argv[0], argv[i], greenapi_status_message(status));
            exit_status = 1;
        }
    }

    while (under_way > 0) {
        struct epoll_event event;
        if (epoll_wait(loop, &event, 1, -1) < 0) {
            if (errno == EINTR)
                continue;
            perror("epoll_wait");
            return 2;
        }

        if (event.data.fd == interrupts) {
            struct signalfd_siginfo info;
            if (read(interrupts, &info, sizeof info) == (ssize_t)sizeof info)
                fprintf(stderr, "cancelled: %zu\n", greenapi_queue_cancel(queue, TAG));
            continue; /* the results of cancelled deletions come through the queue too */
        }

        /* Level-triggered: epoll reports again if more results wait. */
        greenapi_result results[64];
        size_t taken = greenapi_queue_take(queue, results, 64, 0);
        under_way -= taken;
        for (size_t i = 0; i < taken; i++) {
            printf("%" PRId64 ": %s\n", results[i].id, results[i].message);

            greenapi_effect effect = greenapi_status_effect(results[i].status);
            if (effect == GREENAPI_EFFECT_UNKNOWN)
                exit_status = 3;
            else if (effect == GREENAPI_EFFECT_NOT_DELETED && exit_status == 0)
                exit_status = 1;
        }
    }

    close(loop);
    close(interrupts);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return exit_status;
}
