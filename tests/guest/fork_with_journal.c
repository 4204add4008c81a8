/*
 * A journal belongs to the process that opened it. A forked child's calls end in INVALID_ARGUMENT,
 * and the lock ends with its holder, even if a child of the holder lives on. The journal's thread
 * runs only while there is a client with a journal.
 */
#include "guest.h"

enum { FIRST = 1101000001, ENDS = 2 };

static char journal[] = "/tmp/greenapi-guest-journal-XXXXXX";

static greenapi_status open_journal(greenapi_client **client, greenapi_result *result)
{
    greenapi_options options = guest_options();
    options.journal = journal;
    return greenapi_client_new(guest_url(), guest_token(), &options, client, result);
}

static greenapi_client *hold_journal(void)
{
    greenapi_client *client;
    greenapi_result result;
    greenapi_status status = open_journal(&client, &result);
    guest_check(status == GREENAPI_STATUS_OK, "the journal cannot be opened: %s", result.message);
    return client;
}

static void expect_refused(const char *what, const greenapi_result *result)
{
    guest_check(result->status == GREENAPI_STATUS_INVALID_ARGUMENT && result->attempts == 0 &&
                    strstr(result->message, "fork") != NULL,
                "%s in a child ended in %s (%s)", what, greenapi_status_name(result->status),
                result->message);
}

static void be_child(greenapi_client *client)
{
    guest_time_limit(30);
    greenapi_result results[2];
    greenapi_client_delete_instance(client, FIRST + 1, results);
    expect_refused("a blocking call", results);
    const int64_t ids[2] = {FIRST + 1, FIRST};
    greenapi_status status = greenapi_client_delete_instances(client, ids, 2, results, NULL, NULL);
    guest_check(status == GREENAPI_STATUS_INVALID_ARGUMENT, "bulk returned %d", (int)status);
    expect_refused("bulk", &results[0]);
    expect_refused("bulk", &results[1]);
    greenapi_queue *queue = guest_queue();
    greenapi_queue_submit(queue, client, FIRST + 1, 7);
    guest_check(greenapi_queue_take(queue, results, 1, -1) == 1, "the queue has no result");
    expect_refused("a queue", results);
    greenapi_queue_free(queue);

    greenapi_client *own;
    status = open_journal(&own, results);
    guest_check(status == GREENAPI_STATUS_INVALID_ARGUMENT &&
                    strstr(results->message, "another process") != NULL,
                "the child opened its parent's journal: %s (%s)", greenapi_status_name(status),
                results->message);
    /* Calls without a journal work in the child. */
    guest_one_call();
    greenapi_client_free(client);
    _exit(0);
}

static int journal_threads(void)
{
    return strstr(guest_threads().names, "greenapi-write") != NULL;
}

int main(void)
{
    guest_begin(60);
    guest_tell("POST", "/reset", "");
    guest_tell("POST", "/instances", "{\"first\":1101000001,\"count\":5}");
    int file = mkstemp(journal);
    guest_check(file >= 0, "mkstemp: %s", strerror(errno));
    close(file);

    guest_one_call();
    guest_check(!journal_threads(), "the journal's thread runs without a journal");
    greenapi_client *client = hold_journal();
    greenapi_result result;
    greenapi_status status = greenapi_client_delete_instance(client, FIRST, &result);
    guest_check(status == GREENAPI_STATUS_OK, "%s", result.message);
    guest_check(journal_threads() && guest_threads().library <= 5, "more than five threads:%s",
                guest_threads().names);
    int descriptors = guest_descriptors();
    pid_t child = fork();
    if (child == 0)
        be_child(client);
    guest_reap(child, 0, "the child");
    /* The parent's client still works. */
    status = greenapi_client_delete_instance(client, FIRST + 1, &result);
    guest_check(status == GREENAPI_STATUS_OK && result.attempts == 1, "%s", result.message);
    guest_check(guest_descriptors() == descriptors, "%d descriptors have become %d", descriptors,
                guest_descriptors());
    greenapi_client_free(client);

    /* The holder opens the journal, forks a child that lives on, and is killed. */
    int ends[ENDS];
    guest_check(pipe(ends) == 0, "pipe: %s", strerror(errno));
    pid_t holder = fork();
    if (holder == 0) {
        guest_time_limit(30);
        greenapi_client *held = hold_journal();
        status = greenapi_client_delete_instance(held, FIRST + 2, &result);
        guest_check(status == GREENAPI_STATUS_OK, "%s", result.message);
        pid_t lasting = fork();
        if (lasting == 0) {
            close(ends[0]);
            for (;;)
                pause();
        }
        guest_check(write(ends[1], &lasting, sizeof lasting) == sizeof lasting, "write");
        kill(getpid(), SIGKILL);
    }
    pid_t lasting;
    guest_check(read(ends[0], &lasting, sizeof lasting) == sizeof lasting, "read");
    int how;
    waitpid(holder, &how, 0);
    guest_check(WIFSIGNALED(how), "the holder exited with %d", WEXITSTATUS(how));
    guest_check(kill(lasting, 0) == 0, "the holder's child has ended: %s", strerror(errno));
    client = hold_journal();
    for (int64_t id = FIRST; id < FIRST + 3; id++) {
        status = greenapi_client_delete_instance(client, id, &result);
        guest_check(status == GREENAPI_STATUS_OK && result.attempts == 0,
                    "%" PRId64 " is not answered by the journal: %s", id, result.message);
    }
    greenapi_client_free(client);
    kill(lasting, SIGKILL);
    unlink(journal);
    return guest_passed("a child is refused, and the lock ends with its holder");
}
