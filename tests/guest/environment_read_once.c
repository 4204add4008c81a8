/*
 * The library reads the environment only in greenapi_client_new and greenapi_delete_instance, on
 * the caller's thread. A variable that the host sets later does not affect a client, and the host
 * may call setenv() while deletions are under way.
 */
#include "guest.h"

enum { CALLS = 400 };

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

int main(void)
{
    guest_begin(60);
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
