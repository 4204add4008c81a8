/*
 * A forked child inherits an empty queue: the deletions under way and the results that were not yet
 * taken belong to the parent. The child uses its copy as a new queue, with its own descriptor.
 */
#include "guest.h"

enum { COUNT = 8 };

static void child(greenapi_queue *queue, greenapi_client *client, const char *when)
{
    greenapi_result results[COUNT];
    guest_time_limit(10);

    guest_check(!guest_readable(greenapi_queue_fd(queue)), "%s: the child's queue is readable",
                when);
    guest_check(greenapi_queue_take(queue, results, COUNT, 0) == 0,
                "%s: the child took the parent's results", when);
    guest_check(greenapi_queue_take(queue, results, COUNT, -1) == 0,
                "%s: the child took a result although it submitted nothing", when);
    guest_check(greenapi_queue_cancel(queue, 1) == 0,
                "%s: the child cancelled the parent's submission", when);

    guest_submit(queue, client, 100);
    struct pollfd wait = {.fd = greenapi_queue_fd(queue), .events = POLLIN};
    guest_check(poll(&wait, 1, 10000) == 1, "%s: the child's queue never became readable", when);
    guest_check(greenapi_queue_take(queue, results, COUNT, 0) == 1 && results[0].tag == 100,
                "%s: the child did not get its own result", when);
    guest_expect_result("the child's deletion", &results[0]);
    guest_check(!guest_readable(greenapi_queue_fd(queue)), "%s: the child's queue stayed readable",
                when);
    guest_queue_call(queue, client, 101);

    greenapi_queue_free(queue);
    greenapi_client_free(client);
    _exit(0);
}

static void fork_child(greenapi_queue *queue, greenapi_client *client, const char *when)
{
    pid_t pid = fork();
    guest_check(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0)
        child(queue, client, when);
    guest_reap(pid, 0, "the child");
}

int main(void)
{
    guest_begin(60);
    guest_tell("POST", "/reset", "");
    guest_hold(COUNT);
    greenapi_client *client = guest_client();
    greenapi_queue *queue = guest_queue();
    int descriptor = greenapi_queue_fd(queue);
    for (uint64_t tag = 1; tag <= COUNT; tag++)
        guest_submit(queue, client, tag);
    guest_await("held", COUNT);

    fork_child(queue, client, "with deletions under way");
    guest_check(!guest_readable(descriptor),
                "the child's results made the parent's queue readable");
    guest_check(guest_stat("held", "") == COUNT, "the child ended the parent's deletions");

    guest_tell("POST", "/release", "");
    struct pollfd wait = {.fd = descriptor, .events = POLLIN};
    guest_check(poll(&wait, 1, 10000) == 1, "the parent's queue never became readable");
    fork_child(queue, client, "with results waiting");
    guest_check(guest_readable(descriptor), "the child made the parent's queue unreadable");

    bool seen[COUNT + 1] = {false};
    for (size_t left = COUNT; left > 0;) {
        greenapi_result results[COUNT];
        size_t taken = greenapi_queue_take(queue, results, COUNT, -1);
        guest_check(taken > 0, "the parent lost %zu results", left);
        for (size_t i = 0; i < taken; i++) {
            guest_check(results[i].tag >= 1 && results[i].tag <= COUNT && !seen[results[i].tag],
                        "tag %" PRIu64 " came twice or is not the parent's", results[i].tag);
            seen[results[i].tag] = true;
            guest_expect_result("a deletion of the parent", &results[i]);
        }
        left -= taken;
    }
    guest_check(!guest_readable(descriptor) && greenapi_queue_fd(queue) == descriptor,
                "the parent's descriptor changed");

    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return guest_passed("both children found their queue empty and used it; the parent got its %d "
                        "results once each",
                        COUNT);
}
