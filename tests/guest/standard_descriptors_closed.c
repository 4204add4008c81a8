/*
 * In a host that has closed its standard input, output and error, the library does not give these
 * numbers to a journal, a queue or a connection: text that the host writes to standard error would
 * end up in them.
 */
#include "guest.h"

int main(void)
{
    guest_begin(60);
    guest_tell("POST", "/reset", "");
    char journal[64];
    snprintf(journal, sizeof journal, "/tmp/greenapi-standard-%d", (int)getpid());
    guest_one_call(); /* starts the event loop, which keeps the numbers that it gets */

    int kept[3];
    for (int number = 0; number < 3; number++) {
        kept[number] = fcntl(number, F_DUPFD_CLOEXEC, 3);
        close(number);
    }
    greenapi_options options = guest_options();
    options.journal = journal;
    greenapi_client *client = guest_client_of(guest_url(), &options);
    greenapi_queue *queue = guest_queue();
    guest_client_call(client);
    guest_queue_call(queue, client, 1);
    char taken[3][256] = {"", "", ""};
    for (int number = 0; number < 3; number++) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", number);
        if (readlink(link, taken[number], sizeof taken[number] - 1) < 0)
            dup2(kept[number], number);
    }
    for (int number = 0; number < 3; number++)
        if (*taken[number] != '\0') {
            dup2(kept[2], 2);
            guest_fail("the library gave descriptor %d to %s", number, taken[number]);
        }

    /* The files that were moved still do their work. */
    guest_check(greenapi_queue_fd(queue) > 2, "the queue has descriptor %d",
                (int)greenapi_queue_fd(queue));
    greenapi_client *second = NULL;
    greenapi_result result;
    pid_t child = fork();
    if (child == 0) {
        greenapi_status status =
            greenapi_client_new(guest_url(), guest_token(), &options, &second, &result);
        guest_check(status != GREENAPI_STATUS_OK, "another process could open the locked journal");
        _exit(0);
    }
    guest_reap(child, 0, "another process");
    guest_client_call(client);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    unlink(journal);
    return guest_passed("a journal, a queue and a connection have descriptors above 2");
}
