/*
 * Calls pthread_cancel on threads that are inside calls of every kind, and on a thread that then
 * makes calls. All calls complete, and only then the threads end, so no call leaves anything half
 * done.
 */
#include "guest.h"

enum { KINDS = 5 };

static greenapi_client *client;
static atomic_int finished;

/* Makes every kind of call on a thread whose cancellation is already pending. */
static void call_all(void)
{
    pthread_cancel(pthread_self());
    guest_one_call();
    greenapi_options options = guest_options();
    greenapi_client *own = guest_client_of(guest_url(), &options);
    greenapi_queue *queue = guest_queue();
    guest_client_call(own);
    guest_queue_call(queue, own, 1);
    greenapi_queue_cancel(queue, 1);
    greenapi_queue_free(queue);
    greenapi_client_free(own);
}

static void *call(void *argument)
{
    greenapi_queue *queue;
    greenapi_result result;
    const int64_t id = GUEST_ID;
    switch ((size_t)argument) {
    case 0:
        guest_one_call();
        break;
    case 1:
        guest_client_call(client);
        break;
    case 2:
        greenapi_client_delete_instances(client, &id, 1, &result, NULL, NULL);
        guest_expect_result("a deletion in bulk", &result);
        break;
    case 3:
        queue = guest_queue();
        guest_queue_call(queue, client, 1);
        break;
    default:
        call_all();
    }
    atomic_fetch_add(&finished, 1);
    pthread_testcancel();
    guest_fail("a cancelled thread went on after its call");
}

int main(void)
{
    guest_begin(60);
    guest_tell("POST", "/reset", "");
    client = guest_client();
    guest_hold(KINDS - 1);
    pthread_t threads[KINDS];
    for (size_t i = 0; i < KINDS - 1; i++)
        threads[i] = guest_thread(call, (void *)i);
    guest_await("held", KINDS - 1);
    for (size_t i = 0; i < KINDS - 1; i++)
        pthread_cancel(threads[i]);

    threads[KINDS - 1] = guest_thread(call, (void *)(size_t)(KINDS - 1));
    void *ended;
    guest_check(pthread_join(threads[KINDS - 1], &ended) == 0 && ended == PTHREAD_CANCELED,
                "the thread with a pending cancellation was not cancelled");
    guest_check(atomic_load(&finished) == 1,
                "a cancelled call ended before its answer, or did not end");
    guest_tell("POST", "/release", "");
    for (size_t i = 0; i < KINDS - 1; i++)
        guest_check(pthread_join(threads[i], &ended) == 0 && ended == PTHREAD_CANCELED,
                    "thread %zu was not cancelled", i);
    guest_check(atomic_load(&finished) == KINDS, "%d of %d calls completed", atomic_load(&finished),
                KINDS);

    guest_client_call(client);
    greenapi_client_free(client);
    return guest_passed(
        "%d threads were cancelled inside calls and ended after their calls had completed", KINDS);
}
