/*
 * The library reads the environment only in greenapi_client_new and greenapi_delete_instance, on
 * the caller's thread. A variable that the host sets later does not affect a client, and the host
 * may call setenv() during every other call, the first of a process included.
 */
#include "guest.h"
#include <sys/syscall.h>

enum { CALLS = 400 };

extern char **environ;

/* Whether the library must not read the environment now. */
static bool settled;

/* Takes the place of the C library's getenv() in the library too. The program calls from its main
 * thread only, so every other thread is one of the library's. */
char *getenv(const char *name)
{
    if (syscall(SYS_gettid) != getpid())
        guest_fail("%s was read on a thread of the library", name);
    if (settled)
        guest_fail("%s was read outside greenapi_client_new", name);
    size_t length = strlen(name);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++)
        if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=')
            return *entry + length + 1;
    return NULL;
}

static greenapi_client *new_client(void)
{
    greenapi_options options;
    greenapi_options_init(&options, sizeof options);
    options.timeout_ms = 2000; /* the proxy never answers */
    options.max_retries = 0;
    return guest_client_of(guest_env("GREENAPI_HTTPS_URL"), &options);
}

static greenapi_status call(greenapi_client *client)
{
    greenapi_result result;
    return greenapi_client_delete_instance(client, GUEST_ID, &result);
}

/* A getenv() on another thread would meanwhile read memory that setenv() has just freed. */
static void change_while_calls_are_under_way(greenapi_client *client)
{
    greenapi_queue *queue = guest_queue();
    for (int i = 0; i < CALLS; i++)
        guest_submit(queue, client, 0);
    greenapi_result results[64];
    for (int ended = 0; ended < CALLS;) {
        char name[32];
        for (int i = 0; i < 100; i++) {
            snprintf(name, sizeof name, "GUEST_%d_%d", ended, i);
            setenv(name, "a value", 1);
        }
        size_t taken = greenapi_queue_take(queue, results, 64, -1);
        for (size_t i = 0; i < taken; i++)
            guest_expect_result("a deletion beside setenv()", &results[i]);
        ended += (int)taken;
    }
    greenapi_queue_free(queue);
}

static void read_list(greenapi_client *client)
{
    greenapi_list *list;
    greenapi_result result;
    greenapi_status status = greenapi_client_list_instances(client, 1, &list, &result);
    guest_check(status == GREENAPI_STATUS_OK, "the list: %s", result.message);
    greenapi_instance instances[8];
    while (greenapi_list_take(list, instances, 8, -1) > 0)
        continue;
    greenapi_list_free(list);
}

/* Every kind of call, over plain connections and TLS, the first of which starts the threads. */
static void make_calls_that_read_nothing(void)
{
    char journal[] = "/tmp/greenapi-guest-journal-XXXXXX";
    int file = mkstemp(journal);
    guest_check(file >= 0, "mkstemp: %s", strerror(errno));
    close(file);
    /* The name makes the library's threads for DNS start. */
    char named[64];
    snprintf(named, sizeof named, "http://localhost%s", strrchr(guest_url(), ':'));
    const char *const urls[] = {guest_url(), named, guest_env("GREENAPI_HTTPS_URL")};
    greenapi_client *clients[6];
    for (int i = 0; i < 6; i++) {
        greenapi_options options = guest_options();
        options.session = i < 3 ? GREENAPI_SESSION_IGNORE : GREENAPI_SESSION_LOG_OUT;
        options.journal = i == 0 ? journal : NULL;
        clients[i] = guest_client_of(urls[i % 3], &options);
    }
    greenapi_queue *queue = guest_queue();
    settled = true;
    for (int i = 0; i < 6; i++) {
        greenapi_result result;
        greenapi_client_delete_instance(clients[i], GUEST_ID, &result);
        guest_check(result.status == GREENAPI_STATUS_NOT_FOUND, "client %d: %s", i, result.message);
        greenapi_queue_submit(queue, clients[i], GUEST_ID, 0);
        guest_check(greenapi_queue_take(queue, &result, 1, -1) == 1, "client %d: no result", i);
        read_list(clients[i]);
        greenapi_client_free(clients[i]);
    }
    greenapi_queue_free(queue);
    settled = false;
    unlink(journal);
    guest_one_call();
}

static void make_calls_in_a_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        guest_time_limit(30);
        make_calls_that_read_nothing();
        _exit(0);
    }
    guest_reap(child, 0, "the child");
}

int main(void)
{
    guest_begin(60);
    make_calls_in_a_child();
    make_calls_that_read_nothing();
    make_calls_in_a_child();
    char proxy[64];
    int socket_ = guest_listening(proxy, sizeof proxy);
    guest_no_proxies();

    greenapi_client *before = new_client();
    setenv("HTTPS_PROXY", proxy, 1);
    greenapi_client *after = new_client();
    greenapi_status status = call(before);
    guest_check(status == GREENAPI_STATUS_NOT_FOUND && !guest_readable(socket_),
                "a client that was made before the proxy was set: %s",
                greenapi_status_name(status));
    unsetenv("HTTPS_PROXY");
    status = call(after);
    guest_check(status == GREENAPI_STATUS_CONNECT_FAILED && guest_readable(socket_),
                "a client that was made while the proxy was set: %s", greenapi_status_name(status));
    change_while_calls_are_under_way(before);
    greenapi_client_free(before);
    greenapi_client_free(after);
    return guest_passed("the environment is read only when a client is made");
}
