/*
 * Calls every function and causes every failure that a test can cause, for a memory checker:
 * Valgrind must report no error and no leak. Without Valgrind the program checks that each call
 * ends with the expected status.
 */
#include "guest.h"

static void expect(const char *what, greenapi_status is, greenapi_status should)
{
    guest_check(is == should, "%s: %s instead of %s", what, greenapi_status_name(is),
                greenapi_status_name(should));
}

/* Makes one deletion at this URL with a client of these options. */
static greenapi_status try_one(const char *url, greenapi_options options, greenapi_result *result)
{
    greenapi_client *client = NULL;
    greenapi_status status = greenapi_client_new(url, guest_token(), &options, &client, result);
    if (status == GREENAPI_STATUS_OK)
        status = greenapi_client_delete_instance(client, GUEST_ID, result);
    greenapi_client_free(client);
    return status;
}

static void answers(greenapi_options options)
{
    static const struct {
        const char *fault;
        greenapi_status status;
    } cases[] = {
        {"{\"body\":\"{\\\"deleteInstanceAccount\\\":true}\"}", GREENAPI_STATUS_OK},
        {"{\"body\":\"{\\\"code\\\":401,\\\"description\\\":\\\"Unauthorized\\\"}\"}",
         GREENAPI_STATUS_UNAUTHORIZED},
        {"{\"status\":403}", GREENAPI_STATUS_FORBIDDEN},
        {"{\"status\":429}", GREENAPI_STATUS_RATE_LIMITED},
        {"{\"status\":404}", GREENAPI_STATUS_REJECTED},
        {"{\"status\":302,\"headers\":[[\"Location\",\"http://127.0.0.1:9/\"]]}",
         GREENAPI_STATUS_REJECTED},
        {"{\"body\":\"{\\\"deleteInstanceAccount\\\":false}\"}", GREENAPI_STATUS_REJECTED},
        {"{\"status\":502}", GREENAPI_STATUS_SERVER_ERROR},
        {"{\"body\":\"[[[\"}", GREENAPI_STATUS_BAD_RESPONSE},
        {"{\"body_repeat\":{\"text\":\"x\",\"times\":100000}}", GREENAPI_STATUS_BAD_RESPONSE},
        {"{\"stage\":\"acted\",\"then\":\"reset\"}", GREENAPI_STATUS_CONNECTION_LOST},
        {"{\"stage\":\"received\",\"then\":\"stall\"}", GREENAPI_STATUS_TIMEOUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char rule[256];
        snprintf(rule, sizeof rule, "[{\"method\":\"delete\",\"fault\":%s}]", cases[i].fault);
        guest_tell("POST", "/reset", "");
        guest_tell("POST", "/faults", rule);
        greenapi_result result;
        options.max_retries = 0;
        options.timeout_ms = cases[i].status == GREENAPI_STATUS_TIMEOUT ? 500 : 20000;
        expect(cases[i].fault, try_one(guest_url(), options, &result), cases[i].status);
    }
    guest_tell("POST", "/reset", "");
}

static void connections(greenapi_options options)
{
    static const struct {
        const char *trap;
        greenapi_status status;
    } cases[] = {
        {"refused", GREENAPI_STATUS_CONNECT_FAILED},
        {"backlog", GREENAPI_STATUS_CONNECT_FAILED},
        {"tls_self_signed", GREENAPI_STATUS_TLS_FAILED},
        {"tls_expired", GREENAPI_STATUS_TLS_FAILED},
        {"tls_wrong_host", GREENAPI_STATUS_TLS_FAILED},
        {"tls_unknown_ca", GREENAPI_STATUS_TLS_FAILED},
        {"tls_old", GREENAPI_STATUS_TLS_FAILED},
        {"tls_garbage", GREENAPI_STATUS_TLS_FAILED},
        {"http_to_tls", GREENAPI_STATUS_TLS_FAILED},
    };
    options.max_retries = 1;
    options.timeout_ms = 5000;
    options.connect_timeout_ms = 2000;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        greenapi_result result;
        expect(cases[i].trap, try_one(guest_endpoint(cases[i].trap), options, &result),
               cases[i].status);
        guest_check(result.attempts == 0, "%s: %u attempts", cases[i].trap,
                    (unsigned)result.attempts);
    }
}

static void refusals(void)
{
    greenapi_options options = guest_options();
    greenapi_client *client;
    greenapi_result result;
    expect("no url", greenapi_client_new(NULL, "t", NULL, &client, &result),
           GREENAPI_STATUS_INVALID_ARGUMENT);
    options.ca_file = "/nonexistent";
    expect("no such ca_file", greenapi_client_new(guest_url(), "t", &options, &client, &result),
           GREENAPI_STATUS_INVALID_ARGUMENT);
    expect("a wrong id", greenapi_delete_instance(guest_url(), "t", 0, NULL),
           GREENAPI_STATUS_INVALID_ARGUMENT);
    expect("a wrong token", greenapi_delete_instance(guest_url(), "t", 1, NULL),
           GREENAPI_STATUS_UNAUTHORIZED);
}

static bool stop_at_first(size_t done, size_t total, const greenapi_result *last, void *user_data)
{
    (void)done;
    (void)total;
    (void)last;
    (void)user_data;
    return false;
}

static void cancellations(greenapi_options options)
{
    enum { COUNT = 16, AT_ONCE = 4 };
    options.max_in_flight = AT_ONCE;
    greenapi_client *client = guest_client_of(guest_url(), &options);
    greenapi_result results[COUNT];
    int64_t ids[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        ids[i] = GUEST_ID;

    greenapi_client_delete_instances(client, ids, COUNT, results, stop_at_first, NULL);

    /* Some deletions are under way, some still wait for their turn. They are cancelled by tag, and
     * the others by freeing the queue after the client. */
    guest_tell("POST", "/reset", "");
    guest_hold(COUNT);
    greenapi_queue *queue = guest_queue();
    for (uint64_t tag = 0; tag < COUNT; tag++)
        guest_submit(queue, client, tag);
    guest_await("held", AT_ONCE);
    guest_check(greenapi_queue_cancel(queue, 0) == 1 &&
                    greenapi_queue_cancel(queue, COUNT - 1) == 1 &&
                    greenapi_queue_cancel(queue, COUNT) == 0,
                "cancel returned a wrong number");
    for (size_t left = 2; left > 0;) {
        size_t taken = greenapi_queue_take(queue, results, COUNT, -1);
        guest_check(taken > 0 && taken <= left, "%zu results of %zu cancelled ones", taken, left);
        for (size_t i = 0; i < taken; i++)
            expect("cancelled", results[i].status,
                   results[i].tag == 0 ? GREENAPI_STATUS_CANCELLED_IN_FLIGHT
                                       : GREENAPI_STATUS_CANCELLED);
        left -= taken;
    }
    greenapi_client_free(client);
    greenapi_queue_free(queue);
    guest_tell("POST", "/reset", "");
}

static void sessions(greenapi_options options)
{
    static const struct {
        uint32_t policy;
        greenapi_status status;
    } cases[] = {
        {GREENAPI_SESSION_REQUIRE_LOGGED_OUT, GREENAPI_STATUS_SESSION_ACTIVE},
        {GREENAPI_SESSION_LOG_OUT, GREENAPI_STATUS_OK},
        {GREENAPI_SESSION_IGNORE, GREENAPI_STATUS_NOT_FOUND},
    };
    const int64_t id = 1101000001;
    guest_tell("POST", "/instances", "[{\"id\":1101000001,\"state\":\"authorized\"}]");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        greenapi_result result;
        options.session = cases[i].policy;
        greenapi_client *client = guest_client_of(guest_url(), &options);
        expect("an authorized instance", greenapi_client_delete_instance(client, id, &result),
               cases[i].status);
        expect("no such instance", greenapi_client_delete_instance(client, GUEST_ID, &result),
               GREENAPI_STATUS_NOT_FOUND);
        greenapi_client_free(client);
    }
    guest_tell("POST", "/settings", "{\"list_forbidden\":true}");
    greenapi_result result;
    options.session = GREENAPI_SESSION_LOG_OUT;
    expect("a list that is forbidden", try_one(guest_url(), options, &result),
           GREENAPI_STATUS_FORBIDDEN);
}

int main(void)
{
    guest_begin(300);
    guest_tell("POST", "/reset", "");
    greenapi_options options = guest_options();
    guest_check(greenapi_version()[0] == '0' + GREENAPI_VERSION_MAJOR,
                "the header is of another version");

    guest_one_call();
    greenapi_client *client = guest_client();
    greenapi_queue *queue = guest_queue();
    guest_client_call(client);
    guest_bulk_call(client);
    guest_queue_call(queue, client, 1);
    guest_check(greenapi_queue_fd(queue) >= 0, "no descriptor");
    greenapi_queue_free(queue);
    greenapi_client_free(client);

    refusals();
    answers(options);
    connections(options);
    cancellations(options);
    sessions(options);
    return guest_passed("every function was called and every cause of failure met");
}
