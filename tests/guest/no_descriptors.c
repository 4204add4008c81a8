/*
 * Without free descriptors, the first call and later calls end in a status with a message, and the
 * next call works once there are descriptors again.
 */
#include "guest.h"

static const char *https_url;

/* Limits the process to `more` additional descriptors. */
static struct rlimit leave(unsigned more)
{
    struct rlimit before, now;
    getrlimit(RLIMIT_NOFILE, &before);
    now = before;
    int lowest = dup(0); /* the lowest free number */
    guest_check(lowest >= 0, "dup: %s", strerror(errno));
    close(lowest);
    now.rlim_cur = (rlim_t)lowest + more;
    guest_check(setrlimit(RLIMIT_NOFILE, &now) == 0, "setrlimit: %s", strerror(errno));
    return before;
}

static void restore(struct rlimit before)
{
    setrlimit(RLIMIT_NOFILE, &before);
}

static void expect_out(const char *what, greenapi_status status, const char *message)
{
    guest_check(status == GREENAPI_STATUS_OUT_OF_RESOURCES, "%s without descriptors: %s (%s)", what,
                greenapi_status_name(status), message);
    guest_check(strlen(message) > 20, "%s without descriptors has no message: \"%s\"", what,
                message);
}

/* ---- the first call of a process; each of these functions runs in its own child ---- */

static void first_one_call(unsigned room)
{
    struct rlimit before = leave(room);
    int code = -1;
    greenapi_status status = greenapi_delete_instance(guest_url(), guest_token(), GUEST_ID, &code);
    restore(before);
    /* With some descriptors the engine may start; then the call has to be answered. */
    if (room == 0 || status != GREENAPI_STATUS_NOT_FOUND)
        expect_out("the first call", status, greenapi_status_message(status));
    guest_one_call();
}

static void first_client(unsigned room)
{
    greenapi_client *client = (greenapi_client *)-1;
    greenapi_options options = guest_options();
    greenapi_result result;
    struct rlimit before = leave(room);
    greenapi_status status =
        greenapi_client_new(https_url, guest_token(), &options, &client, &result);
    if (status == GREENAPI_STATUS_OK) {
        status = greenapi_client_delete_instance(client, GUEST_ID, &result);
        restore(before);
        if (status != GREENAPI_STATUS_NOT_FOUND)
            expect_out("the first call of a client", status, result.message);
        guest_client_call(client);
    } else {
        restore(before);
        expect_out("greenapi_client_new", status, result.message);
        guest_check(client == NULL, "greenapi_client_new failed and gave a client");
        client = guest_client_of(https_url, &options);
        guest_client_call(client);
    }
    greenapi_client_free(client);
}

static void first_queue(unsigned room)
{
    greenapi_queue *queue = (greenapi_queue *)-1;
    struct rlimit before = leave(room);
    greenapi_status status = greenapi_queue_new(&queue);
    restore(before);
    if (status != GREENAPI_STATUS_OK) {
        expect_out("greenapi_queue_new", status, greenapi_status_message(status));
        guest_check(queue == NULL, "greenapi_queue_new failed and gave a queue");
        queue = guest_queue();
    } else {
        guest_check(room > 0, "a queue has a descriptor where there was none");
    }
    greenapi_client *client = guest_client();
    guest_queue_call(queue, client, 1);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
}

static void in_child(void (*body)(unsigned), unsigned room)
{
    pid_t pid = fork();
    guest_check(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        guest_time_limit(40);
        body(room);
        _exit(0);
    }
    guest_reap(pid, 0, "a child");
}

/* ---- later, when everything is running ---- */

static void later(unsigned unused)
{
    (void)unused;
    greenapi_options options = guest_options();
    options.max_retries = 1;
    greenapi_client *client = guest_client();
    greenapi_client *elsewhere = guest_client_of(https_url, &options);
    greenapi_client *by_name = guest_client_of("https://greenapi.invalid", &options);
    greenapi_queue *queue = guest_queue(), *none = (greenapi_queue *)-1;
    guest_one_call();
    guest_client_call(client);

    struct rlimit before = leave(0);
    guest_client_call(client); /* over its idle connection */
    greenapi_result result;
    greenapi_status status = greenapi_client_delete_instance(elsewhere, GUEST_ID, &result);
    expect_out("a call that needs a connection", status, result.message);
    guest_check(result.attempts == 0, "%u attempts without a connection",
                (unsigned)result.attempts);
    /* Without descriptors the system says that a name is unknown, whatever the name. */
    status = greenapi_client_delete_instance(by_name, GUEST_ID, &result);
    expect_out("a call that needs a name's address", status, result.message);
    guest_submit(queue, elsewhere, 7);
    guest_check(greenapi_queue_take(queue, &result, 1, -1) == 1 && result.tag == 7,
                "the queued deletion has no result");
    expect_out("a queued deletion", result.status, result.message);
    status = greenapi_queue_new(&none);
    expect_out("greenapi_queue_new", status, greenapi_status_message(status));
    guest_check(none == NULL, "greenapi_queue_new failed and gave a queue");
    restore(before);

    guest_client_call(elsewhere);
    guest_queue_call(queue, elsewhere, 8);
    guest_one_call();
    greenapi_queue_free(queue);
    greenapi_client_free(by_name);
    greenapi_client_free(elsewhere);
    greenapi_client_free(client);
}

/* The first call that reads the certificates of a directory. */
static void certificates(unsigned room)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s", guest_env("GREENAPI_CA_FILE"));
    *strrchr(folder, '/') = '\0';
    unsetenv("SSL_CERT_FILE");
    setenv("SSL_CERT_DIR", folder, 1);
    greenapi_options options = guest_options();
    options.ca_file = NULL;
    options.max_retries = 0;
    greenapi_client *client = guest_client_of(https_url, &options);
    guest_one_call();

    struct rlimit before = leave(room);
    greenapi_result result;
    greenapi_status status = greenapi_client_delete_instance(client, GUEST_ID, &result);
    restore(before);
    if (status != GREENAPI_STATUS_NOT_FOUND)
        expect_out("a call that reads certificates", status, result.message);
    guest_client_call(client);
    greenapi_client_free(client);
}

int main(void)
{
    enum { ROOM = 16 };
    guest_begin(300);
    https_url = guest_env("GREENAPI_HTTPS_URL");
    guest_tell("POST", "/reset", "");

    /* Tries every number of free descriptors up to one that is enough for everything. */
    for (unsigned room = 0; room < ROOM; room++) {
        in_child(first_one_call, room);
        in_child(first_client, room);
        in_child(first_queue, room);
        in_child(certificates, room);
    }
    in_child(later, 0);
    return guest_passed(
        "with 0 to %d descriptors left, first calls and later ones end in OUT_OF_RESOURCES or are "
        "answered, and work again afterwards",
        ROOM - 1);
}
