/*
 * While no thread can be started, calls end in a status with a message; the next call works once
 * threads can be started again.
 *
 * Root is exempt from the limit on threads, so the program first becomes the user nobody.
 */
#include "guest.h"

enum { NOBODY = 65534 };

static void *nothing(void *unused)
{
    return unused;
}

static void expect_out(const char *what, greenapi_status status, const char *message)
{
    guest_check(status == GREENAPI_STATUS_OUT_OF_RESOURCES && strlen(message) > 20,
                "%s without threads: %s (%s)", what, greenapi_status_name(status), message);
}

int main(void)
{
    guest_begin(60);
    guest_tell("POST", "/reset", "");
    struct rlimit enough, none;
    getrlimit(RLIMIT_NPROC, &enough);
    none = enough;
    none.rlim_cur = 0;

    /* The user must change before the limit is set, because the kernel checks the limit then. */
    if (geteuid() == 0)
        guest_check(setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
                        setresuid(NOBODY, NOBODY, NOBODY) == 0,
                    "root cannot become user %d: %s", NOBODY, strerror(errno));
    guest_check(setrlimit(RLIMIT_NPROC, &none) == 0, "setrlimit: %s", strerror(errno));
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, NULL) == 0)
        guest_skip(
            "threads can be started in spite of RLIMIT_NPROC 0: this user may exceed limits");

    for (int round = 0; round < 3; round++) {
        int code = -1;
        greenapi_status status =
            greenapi_delete_instance(guest_url(), guest_token(), GUEST_ID, &code);
        expect_out("the one call", status, greenapi_status_message(status));
        guest_check(code == 0, "greenapi_delete_instance wrote code %d without an answer", code);

        greenapi_client *client = NULL;
        greenapi_result result;
        greenapi_options options = guest_options();
        options.ca_file = NULL; /* the user nobody may lack the right to read the file */
        status = greenapi_client_new(guest_url(), guest_token(), &options, &client, &result);
        if (status == GREENAPI_STATUS_OK)
            status = greenapi_client_delete_instance(client, GUEST_ID, &result);
        expect_out("a client's call", status, result.message);

        greenapi_queue *queue = NULL;
        if (client != NULL && greenapi_queue_new(&queue) == GREENAPI_STATUS_OK &&
            greenapi_queue_submit(queue, client, GUEST_ID, 1) == GREENAPI_STATUS_OK) {
            guest_check(greenapi_queue_take(queue, &result, 1, -1) == 1,
                        "an accepted submission has no result");
            expect_out("a queued deletion", result.status, result.message);
        }
        greenapi_queue_free(queue);
        greenapi_client_free(client);
    }

    guest_check(setrlimit(RLIMIT_NPROC, &enough) == 0, "setrlimit: %s", strerror(errno));
    guest_one_call();
    struct guest_threads threads = guest_threads();
    guest_check(threads.library > 0, "the call was answered without a thread");
    return guest_passed("OUT_OF_RESOURCES while no thread can be started, answered when one can");
}
