/*
 * 5,000 threads each make one call and end. Afterwards memory, descriptors and threads have not
 * grown.
 */
#include "guest.h"

enum { AT_ONCE = 20, WARM_UP = 1000, THREADS = 5000, GROWTH_KIB = 2048 };

static greenapi_client *client;

static void *call(void *argument)
{
    greenapi_queue *queue;
    switch ((size_t)argument % 4) {
    case 0:
        guest_one_call();
        break;
    case 1:
        guest_client_call(client);
        break;
    case 2:
        guest_bulk_call(client);
        break;
    default:
        queue = guest_queue();
        guest_queue_call(queue, client, 1);
        greenapi_queue_free(queue);
    }
    return NULL;
}

static void run(size_t count)
{
    pthread_t threads[AT_ONCE];
    for (size_t i = 0; i < count + AT_ONCE; i++) {
        if (i >= AT_ONCE)
            pthread_join(threads[i % AT_ONCE], NULL);
        if (i < count)
            threads[i % AT_ONCE] = guest_thread(call, (void *)i);
    }
}

int main(void)
{
    guest_begin(120);
    guest_tell("POST", "/reset", "");
    client = guest_client();
    run(WARM_UP);
    long memory = guest_memory();
    int descriptors = guest_descriptors(), threads = guest_threads().all;

    run(THREADS);
    long memory_growth = guest_memory() - memory;
    int more_descriptors = guest_descriptors() - descriptors,
        more_threads = guest_threads().all - threads;
    guest_check(memory_growth < GROWTH_KIB, "grew by %ld KiB", memory_growth);
    /* More calls may have run at the same time than in the warm-up, and left idle connections. */
    guest_check(more_descriptors <= 8 * AT_ONCE, "%d more descriptors", more_descriptors);
    guest_check(more_threads <= 0, "%d more threads", more_threads);
    greenapi_client_free(client);
    return guest_passed("after %d threads that called once: %+ld KiB, %+d descriptors, %+d threads",
                        THREADS, memory_growth, more_descriptors, more_threads);
}
