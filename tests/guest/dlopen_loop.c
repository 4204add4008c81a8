/*
 * Several threads load and unload the library in a loop while calls are under way: nothing crashes,
 * and neither memory nor descriptors nor threads grow. The program is not linked with the library;
 * it loads the one that GREENAPI_LIBRARY names.
 */
#include "guest.h"
#include <dlfcn.h>

enum { THREADS = 4, WARM_UP = 25, ROUNDS = 250, GROWTH_KIB = 4096 };

/* POSIX, unlike C, lets programs convert the data pointers of dlsym to function pointers. */
#define SYMBOL(library, name) __extension__({ (__typeof__(&name))symbol(library, #name); })

static void *symbol(void *library, const char *name)
{
    void *address = dlsym(library, name);
    guest_check(address != NULL, "dlsym: %s", dlerror());
    return address;
}

static int rounds;

static void *load_and_call(void *unused)
{
    (void)unused;
    const char *path = guest_env("GREENAPI_LIBRARY");
    for (int i = 0; i < rounds; i++) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        guest_check(library != NULL, "dlopen: %s", dlerror());

        int code = -1;
        greenapi_status status =
            SYMBOL(library, greenapi_delete_instance)(guest_url(), guest_token(), GUEST_ID, &code);
        guest_check(status == GREENAPI_STATUS_NOT_FOUND && code == 404, "status %d with code %d",
                    (int)status, code);

        /* Some requests are still under way when the library is unloaded. */
        greenapi_client *client = NULL;
        greenapi_queue *queue = NULL;
        SYMBOL(library, greenapi_client_new)(guest_url(), guest_token(), NULL, &client, NULL);
        SYMBOL(library, greenapi_queue_new)(&queue);
        guest_check(client != NULL && queue != NULL, "no client or no queue");
        SYMBOL(library, greenapi_queue_submit)(queue, client, GUEST_ID, 1);
        SYMBOL(library, greenapi_client_free)(client);
        SYMBOL(library, greenapi_queue_free)(queue);
        guest_check(dlclose(library) == 0, "dlclose: %s", dlerror());
    }
    return NULL;
}

static void run(int count)
{
    pthread_t threads[THREADS];
    rounds = count;
    for (int i = 0; i < THREADS; i++)
        threads[i] = guest_thread(load_and_call, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    guest_begin(120);
    guest_tell("POST", "/reset", "");
    run(WARM_UP);
    long memory = guest_memory();
    int descriptors = guest_descriptors(), threads = guest_threads().all;

    run(ROUNDS);
    long memory_growth = guest_memory() - memory;
    int more_descriptors = guest_descriptors() - descriptors,
        more_threads = guest_threads().all - threads;
    guest_check(memory_growth < GROWTH_KIB, "grew by %ld KiB", memory_growth);
    /* Connections that are just being closed may still be open, but not one for each round. */
    guest_check(more_descriptors <= 2 * THREADS, "%d more descriptors", more_descriptors);
    guest_check(more_threads <= 0, "%d more threads", more_threads);
    return guest_passed(
        "loaded and unloaded %d times by %d threads: %+ld KiB, %+d descriptors, %+d threads",
        THREADS * ROUNDS, THREADS, memory_growth, more_descriptors, more_threads);
}
