/*
 * A process may fork at any moment: four threads call without a pause while 200 children are
 * forked. Each child immediately makes every kind of call, with the client and the queue that it
 * inherited. All calls of the parent succeed at the first attempt.
 */
#include "guest.h"

enum { CALLERS = 4, CHILDREN = 200, AT_ONCE = 4, CHILD_SECONDS = 10 };

static greenapi_client *client;
static greenapi_queue *queue;
static atomic_bool stop;
static atomic_ulong calls[CALLERS];

static void *call(void *argument)
{
    size_t kind = (size_t)argument;
    for (uint64_t tag = 1; !atomic_load(&stop); tag++) {
        switch (kind) {
        case 0:
            guest_one_call();
            break;
        case 1:
            guest_client_call(client);
            break;
        case 2:
            guest_queue_call(queue, client, tag);
            break;
        default:
            guest_bulk_call(client);
        }
        atomic_fetch_add(&calls[kind], 1);
    }
    return NULL;
}

static void child(void)
{
    guest_time_limit(CHILD_SECONDS);
    guest_one_call();
    guest_client_call(client);
    guest_queue_call(queue, client, UINT64_MAX);
    guest_bulk_call(client);
    _exit(0);
}

/* Waits until every caller has finished a call that began after now. */
static void await_calls(void)
{
    for (size_t kind = 0; kind < CALLERS; kind++) {
        unsigned long before = atomic_load(&calls[kind]);
        while (atomic_load(&calls[kind]) < before + 2)
            sched_yield();
    }
}

int main(void)
{
    guest_begin(180);
    client = guest_client();
    queue = guest_queue();
    pthread_t callers[CALLERS];
    for (size_t i = 0; i < CALLERS; i++)
        callers[i] = guest_thread(call, (void *)i);
    await_calls();

    pid_t children[CHILDREN];
    int64_t began[CHILDREN], slowest = 0;
    for (int i = 0; i < CHILDREN + AT_ONCE; i++) {
        if (i >= AT_ONCE) {
            guest_reap(children[i - AT_ONCE], 0, "a forked child");
            int64_t took = guest_now_ms() - began[i - AT_ONCE];
            slowest = took > slowest ? took : slowest;
        }
        if (i < CHILDREN) {
            began[i] = guest_now_ms();
            children[i] = fork();
            guest_check(children[i] >= 0, "fork: %s", strerror(errno));
            if (children[i] == 0)
                child();
        }
    }

    await_calls();
    atomic_store(&stop, true);
    unsigned long total = 0;
    for (size_t i = 0; i < CALLERS; i++) {
        pthread_join(callers[i], NULL);
        total += atomic_load(&calls[i]);
    }
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return guest_passed("%d of %d children made every kind of call (the slowest took %" PRId64
                        " ms), while the parent made %lu, each answered at its first attempt",
                        CHILDREN, CHILDREN, slowest, total);
}
