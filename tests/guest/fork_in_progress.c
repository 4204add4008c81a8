/*
 * The progress callback forks, and both processes return into the library. The parent's call goes
 * on undisturbed. The child's call ends at once, with a status that says that the outcome of the
 * remaining ids is unknown.
 */
#include "guest.h"

enum { COUNT = 8 };

static int64_t ids[COUNT];
static greenapi_result results[COUNT];
static pid_t child = -1;
static size_t calls;

static bool fork_once(size_t done, size_t total, const greenapi_result *last, void *user_data)
{
    (void)total, (void)last, (void)user_data;
    calls++;
    if (done > 1)
        return true;
    /* The stand-in holds the other deletions until they are released. */
    guest_await("held", COUNT - 2);
    child = fork();
    guest_check(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        guest_time_limit(10);
        return true;
    }
    guest_reap(child, 0, "the child");
    guest_tell("POST", "/release", "");
    return true;
}

static void in_child(greenapi_status status, greenapi_client *client)
{
    guest_check(status == GREENAPI_STATUS_INVALID_ARGUMENT && calls == 1,
                "the child's call returned %s after %zu calls of on_progress",
                greenapi_status_name(status), calls);
    for (int i = 0; i < COUNT; i++) {
        greenapi_status expected =
            ids[i] == 0 ? GREENAPI_STATUS_INVALID_ARGUMENT : GREENAPI_STATUS_CANCELLED_IN_FLIGHT;
        guest_check(results[i].status == expected && results[i].id == ids[i],
                    "the child's result %d is %s: %s", i, greenapi_status_name(results[i].status),
                    results[i].message);
    }
    guest_bulk_call(client);
    guest_one_call();
    greenapi_client_free(client);
    _exit(0);
}

int main(void)
{
    guest_begin(60);
    guest_tell("POST", "/reset", "");
    guest_hold(COUNT - 2);
    greenapi_client *client = guest_client();
    /* These two ids are invalid: the first result comes without a request, and the child knows the
     * last result without the parent's answers. */
    ids[0] = ids[COUNT - 1] = 0;
    for (int i = 1; i < COUNT - 1; i++)
        ids[i] = GUEST_ID;
    greenapi_status status =
        greenapi_client_delete_instances(client, ids, COUNT, results, fork_once, NULL);
    if (child == 0)
        in_child(status, client);

    guest_check(status == GREENAPI_STATUS_INVALID_ARGUMENT && calls == COUNT,
                "the parent's call returned %s after %zu calls of on_progress",
                greenapi_status_name(status), calls);
    for (int i = 1; i < COUNT - 1; i++)
        guest_expect_result("a deletion of the parent", &results[i]);
    greenapi_client_free(client);
    return guest_passed(
        "the child's call ended at once with %d unknown results; the parent got all "
        "%d results",
        COUNT - 2, COUNT);
}
