/*
 * The library starts no thread before the first call and never more than four, however many calls
 * are under way. Each has a name that `top -H` shows.
 */
#include "guest.h"

enum { QUEUED = 1000, BLOCKING = 32, LIMIT = 4 };

static greenapi_client *client;

static void *call(void *unused)
{
    (void)unused;
    guest_client_call(client);
    return NULL;
}

static struct guest_threads check(const char *when, int host)
{
    struct guest_threads threads = guest_threads();
    guest_check(threads.library <= LIMIT, "%s: %d threads of the library:%s", when, threads.library,
                threads.names);
    guest_check(threads.all - threads.library == host,
                "%s: %d threads are neither the host's %d nor named greenapi-", when,
                threads.all - threads.library - host, host);
    return threads;
}

int main(void)
{
    guest_begin(60);
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    guest_check(descriptors.rlim_cur > QUEUED + BLOCKING + 64,
                "%lu descriptors are too few for %d connections",
                (unsigned long)descriptors.rlim_cur, QUEUED + BLOCKING);

    /* These functions need no thread and must not start one. */
    (void)greenapi_version();
    (void)greenapi_status_message(GREENAPI_STATUS_TIMEOUT);
    greenapi_options options = guest_options();
    guest_check(check("before the first call", 1).library == 0,
                "there are threads before the first call");

    guest_tell("POST", "/reset", "");
    guest_tell("POST", "/settings", "{\"max_concurrent_streams\":10000}");
    guest_hold(QUEUED + BLOCKING);
    options.max_in_flight = QUEUED + BLOCKING;
    options.connect_timeout_ms = options.timeout_ms = 40000;
    client = guest_client_of(guest_url(), &options);
    greenapi_queue *queue = guest_queue();
    for (uint64_t tag = 0; tag < QUEUED; tag++)
        guest_submit(queue, client, tag);
    pthread_t callers[BLOCKING];
    for (int i = 0; i < BLOCKING; i++)
        callers[i] = guest_thread(call, NULL);
    guest_await("held", QUEUED + BLOCKING);

    struct guest_threads busy = check("with all calls under way", 1 + BLOCKING);
    guest_check(busy.library > 0, "no thread is named greenapi-");

    guest_tell("POST", "/release", "");
    for (int i = 0; i < BLOCKING; i++)
        pthread_join(callers[i], NULL);
    for (size_t left = QUEUED; left > 0;) {
        greenapi_result results[64];
        size_t taken = greenapi_queue_take(queue, results, 64, -1);
        guest_check(taken > 0, "%zu results are missing", left);
        for (size_t i = 0; i < taken; i++)
            guest_expect_result("a queued deletion", &results[i]);
        left -= taken;
    }
    check("after all calls", 1);

    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return guest_passed("none before the first call; with %d calls under way the library has %d:%s",
                        QUEUED + BLOCKING, busy.library, busy.names);
}
