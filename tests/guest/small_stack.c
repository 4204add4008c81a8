/*
 * Every kind of call works on a stack of 64 KiB with a guard page below it, the first call of the
 * process included, over plain HTTP and over TLS.
 */
#include "guest.h"
#include <sys/mman.h>

enum { STACK = 64 * 1024, PAINT = 0xA5 };

static const char *https_url;

static void *call(void *unused)
{
    (void)unused;
    guest_one_call();
    greenapi_client *client = guest_client();
    greenapi_queue *queue = guest_queue();
    guest_client_call(client);
    guest_bulk_call(client);
    guest_queue_call(queue, client, 1);
    greenapi_queue_free(queue);
    greenapi_client_free(client);

    greenapi_options options = guest_options();
    options.session = GREENAPI_SESSION_LOG_OUT;
    client = guest_client_of(https_url, &options);
    greenapi_result result;
    greenapi_client_delete_instance(client, GUEST_ID, &result);
    guest_check(result.status == GREENAPI_STATUS_NOT_FOUND, "over TLS with a session policy: %s",
                result.message);
    greenapi_client_free(client);

    /* Formatting the message of a refusal must fit too. */
    guest_check(greenapi_client_new("ftp://x", "t", NULL, NULL, &result) ==
                    GREENAPI_STATUS_INVALID_ARGUMENT,
                "a wrong URL was accepted");
    return NULL;
}

int main(void)
{
    guest_begin(60);
    https_url = guest_env("GREENAPI_HTTPS_URL");
    guest_tell("POST", "/reset", "");
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *memory = mmap(NULL, page + STACK, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    guest_check(memory != MAP_FAILED, "mmap: %s", strerror(errno));
    guest_check(mprotect(memory, page, PROT_NONE) == 0, "mprotect: %s", strerror(errno));
    unsigned char *stack = memory + page;
    memset(stack, PAINT, STACK);

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    int problem = pthread_attr_setstack(&attributes, stack, STACK);
    guest_check(problem == 0, "pthread_attr_setstack: %s", strerror(problem));
    pthread_t thread;
    problem = pthread_create(&thread, &attributes, call, NULL);
    guest_check(problem == 0, "pthread_create: %s", strerror(problem));
    pthread_join(thread, NULL);

    size_t untouched = 0;
    while (untouched < STACK && stack[untouched] == PAINT)
        untouched++;
    return guest_passed(
        "every kind of call fits into %d bytes of stack; %zu were used, including those of this "
        "program and of the C library",
        STACK, STACK - untouched);
}
