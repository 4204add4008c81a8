/*
 * Malicious servers: each call ends within its deadline, in bounded memory and with a suitable
 * status, and the next call to a proper server gets the right answer.
 */
#include "guest.h"

enum { TIMEOUT_MS = 2000, SLACK_MS = 500, GROWTH_KIB = 16384, CALLS = 4, SURVIVOR = 1101000001 };

#define BIT(status) (UINT64_C(1) << GREENAPI_STATUS_##status)

/* The statuses for a response that is not the API's, or that is cut off with its connection. */
#define NO_ANSWER (BIT(BAD_RESPONSE) | BIT(CONNECTION_LOST))

struct hostility {
    const char *name;
    const char *place; /* the name of an endpoint or a trap of the stand-in */
    const char *fault; /* NULL for a trap, which needs no fault */
    uint64_t statuses; /* those that are allowed */
};

static const struct hostility hostilities[] = {
    {"headers one byte at a time", "http", "{\"trickle_ms\":200}", BIT(TIMEOUT)},
    {"headers one byte at a time, TLS", "https_h1", "{\"trickle_ms\":200}", BIT(TIMEOUT)},
    {"a body one byte at a time, HTTP/2", "https", "{\"trickle_ms\":200}", BIT(TIMEOUT)},
    {"an endless body", "http", "{\"body_repeat\":{\"text\":\"x\"}}", BIT(BAD_RESPONSE)},
    {"an endless body, HTTP/2", "https", "{\"body_repeat\":{\"text\":\"x\"}}", BIT(BAD_RESPONSE)},
    {"an endless body in chunks", "http", "{\"body_repeat\":{\"text\":\"x\"},\"chunked\":true}",
     BIT(BAD_RESPONSE)},
    {"an endless body of spaces", "http", "{\"body_repeat\":{\"text\":\" \"}}", BIT(BAD_RESPONSE)},
    {"an endless body after 502", "http", "{\"status\":502,\"body_repeat\":{\"text\":\"x\"}}",
     BIT(SERVER_ERROR)},
    {"an endless header", "http", "{\"endless_header\":true}", NO_ANSWER},
    {"an endless header, TLS", "https_h1", "{\"endless_header\":true}", NO_ANSWER},
    {"a thousand 1xx answers", "http", "{\"informational\":1000}", BIT(NOT_FOUND) | NO_ANSWER},
    {"a thousand 1xx answers, HTTP/2", "https", "{\"informational\":1000}",
     BIT(NOT_FOUND) | NO_ANSWER},
    {"invalid chunking", "http", "{\"invalid_chunking\":true}", NO_ANSWER},
    {"a body longer than its length", "http", "{\"content_length\":5}", NO_ANSWER},
    {"a body shorter than its length", "http", "{\"content_length\":1000}",
     BIT(TIMEOUT) | NO_ANSWER},
    {"a body shorter than its length, then the end", "http",
     "{\"content_length\":1000,\"then\":\"close_unannounced\"}", NO_ANSWER},
    {"an absurd length", "http", "{\"content_length\":18446744073709551615}",
     BIT(TIMEOUT) | NO_ANSWER},
    {"two answers to one request", "http", "{\"twice\":true}", BIT(NOT_FOUND)},
    {"two answers to one request, TLS", "https_h1", "{\"twice\":true}", BIT(NOT_FOUND)},
    /* The server answers "true" before it has read the id. The library cannot detect that lie. */
    {"an answer before the request is read", "http", "{\"early\":true}", BIT(OK) | NO_ANSWER},
    /* 256 KiB of spaces, then "true": a library that decompressed would believe it or read too
       much. */
    {"a gzip bomb", "http",
     "{\"headers\":[[\"Content-Encoding\",\"gzip\"]],"
     "\"body_base64\":\""
     "H4sIAAAAAAAC/"
     "+3BsQ2AIBAAwFUIY9hZOoaB7wwm+lTG3a3d4e5KAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
     "AAA"
     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
     "AAA"
     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
     "AAA"
     "AAAAAAD4e2qPIzK2cec+WqytnXNkXfKa8X5qwb6WHgAEAA=="
     "\"}",
     BIT(BAD_RESPONSE)},
    {"deep nesting", "http", "{\"body_repeat\":{\"text\":\"[\",\"times\":60000}}",
     BIT(BAD_RESPONSE)},
    {"deep nesting of objects", "http",
     "{\"body_repeat\":{\"text\":\"{\\\"a\\\":\",\"times\":12000}}", BIT(BAD_RESPONSE)},
    {"a greeting that is not HTTP", "http", "{\"raw\":\"220 mail.example.invalid ESMTP\\r\\n\"}",
     BIT(TIMEOUT) | NO_ANSWER},
    {"HTTP/0.9", "http", "{\"raw\":\"{\\\"deleteInstanceAccount\\\":true}\",\"then\":\"fin\"}",
     NO_ANSWER},
    {"a status that is not a number", "http",
     "{\"raw\":\"HTTP/1.1 2x0 OK\\r\\nContent-Length: 0\\r\\n\\r\\n\"}", NO_ANSWER},
    {"a length that is not a number", "http",
     "{\"raw\":\"HTTP/1.1 200 OK\\r\\nContent-Length: 3x\\r\\n\\r\\n{}\",\"then\":\"fin\"}",
     NO_ANSWER},
    {"two lengths", "http",
     "{\"raw\":\"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nContent-Length: "
     "30\\r\\n\\r\\n{}\",\"then\":\"fin\"}",
     NO_ANSWER},
    {"a protocol switch", "http",
     "{\"raw\":\"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: x\\r\\nConnection: "
     "upgrade\\r\\n\\r\\n\"}",
     BIT(REJECTED) | BIT(TIMEOUT) | NO_ANSWER},
    {"bytes that are not text in the head", "http",
     "{\"raw\":\"HTTP/1.1 200 \\u0001\\u0000\\r\\nX: \\u0000\\r\\n\\r\\n\",\"then\":\"fin\"}",
     NO_ANSWER},
    /* A call may still be waiting for a stream when another call's GOAWAY ends the connection. */
    {"GOAWAY", "https", "{\"h2_goaway\":0}", NO_ANSWER | BIT(CONNECT_FAILED) | BIT(UNPROCESSED)},
    {"GOAWAY, ENHANCE_YOUR_CALM", "https", "{\"h2_goaway\":11}",
     NO_ANSWER | BIT(CONNECT_FAILED) | BIT(UNPROCESSED)},
    {"RST_STREAM, NO_ERROR", "https", "{\"h2_reset\":0}", NO_ANSWER},
    {"RST_STREAM, INTERNAL_ERROR", "https", "{\"h2_reset\":2}", NO_ANSWER},
    /* REFUSED_STREAM means that the server did not process the request, even if its bytes left. */
    {"RST_STREAM, REFUSED_STREAM", "https", "{\"h2_reset\":7}",
     NO_ANSWER | BIT(CONNECT_FAILED) | BIT(UNPROCESSED) | BIT(REJECTED)},
    {"a window that never opens", "h2_window_zero", NULL, BIT(TIMEOUT)},
    {"no stream is ever allowed", "h2_never_opens", NULL, BIT(TIMEOUT) | BIT(CONNECT_FAILED)},
    {"a SETTINGS flood", "h2_settings_flood", NULL, BIT(TIMEOUT) | NO_ANSWER},
    {"a TLS record of garbage", "tls_garbage", NULL, BIT(TLS_FAILED)},
    {"a handshake that stalls", "tls_stall", NULL, BIT(TLS_FAILED) | BIT(CONNECT_FAILED)},
    {"plain HTTP where TLS is meant", "http_to_tls", NULL, BIT(TLS_FAILED)},
    {"another protocol's banner", "ssh_banner", NULL,
     BIT(TIMEOUT) | NO_ANSWER | BIT(CONNECT_FAILED)},
    {"a server that accepts and never reads", "accept_stall", NULL, BIT(TIMEOUT)},
    {"a queue of connections that is full", "backlog", NULL, BIT(CONNECT_FAILED)},
};

static greenapi_client *client_of(const char *url, uint32_t retries)
{
    greenapi_options options = guest_options();
    options.timeout_ms = TIMEOUT_MS;
    options.max_retries = retries;
    return guest_client_of(url, &options);
}

/* Makes a few calls at once, so that HTTP/2 calls share a connection. */
static int64_t meet(const struct hostility *it, uint32_t retries)
{
    greenapi_client *client = client_of(guest_endpoint(it->place), retries);
    int64_t ids[CALLS];
    greenapi_result results[CALLS];
    for (int i = 0; i < CALLS; i++)
        ids[i] = GUEST_ID;

    int64_t began = guest_now_ms();
    greenapi_client_delete_instances(client, ids, CALLS, results, NULL, NULL);
    int64_t took = guest_now_ms() - began;
    greenapi_client_free(client);

    guest_check(took <= TIMEOUT_MS + SLACK_MS, "%s: took %" PRId64 " ms with a limit of %d",
                it->name, took, TIMEOUT_MS);
    for (int i = 0; i < CALLS; i++) {
        int32_t status = (int32_t)results[i].status;
        guest_check(status >= 0 && status < 64 && (it->statuses >> status & 1) != 0,
                    "%s: unexpected %s (http_status %d, attempts %u: %s)", it->name,
                    greenapi_status_name(status), (int)results[i].http_status,
                    (unsigned)results[i].attempts, results[i].message);
        guest_check(results[i].attempts <= retries + 1 || retries == 0, "%s: %u attempts", it->name,
                    (unsigned)results[i].attempts);
    }
    return took;
}

/* A second answer to one request must not be taken for the answer to the next request. */
static void expect_right_answer(const char *place)
{
    greenapi_client *client = client_of(guest_endpoint(place), 0);
    greenapi_result result;
    greenapi_client_delete_instance(client, GUEST_ID, &result);
    guest_check(result.status == GREENAPI_STATUS_NOT_FOUND, "%s: the first of two answers: %s",
                place, result.message);
    /* The library cannot notice the second answer before the stand-in has written it. */
    while (guest_stat("in_flight", "") > 0)
        sched_yield();
    greenapi_client_delete_instance(client, SURVIVOR, &result);
    guest_check(result.status == GREENAPI_STATUS_OK,
                "%s: the second of two answers was taken for the next one's: %s", place,
                result.message);
    greenapi_client_free(client);
}

int main(void)
{
    guest_begin(300);
    guest_tell("POST", "/reset", "");
    greenapi_client *decent = guest_client();
    guest_client_call(decent);
    long memory = guest_memory(), most = 0;
    int64_t slowest = 0;

    for (size_t i = 0; i < sizeof hostilities / sizeof *hostilities; i++) {
        for (uint32_t retries = 0; retries <= 1; retries++) {
            char rule[1024];
            guest_tell("POST", "/reset", "");
            if (hostilities[i].fault != NULL) {
                snprintf(rule, sizeof rule, "[{\"method\":\"delete\",\"fault\":%s}]",
                         hostilities[i].fault);
                guest_tell("POST", "/faults", rule);
            }
            int64_t took = meet(&hostilities[i], retries);
            slowest = took > slowest ? took : slowest;
            long growth = guest_memory() - memory;
            most = growth > most ? growth : most;
            guest_check(growth < GROWTH_KIB, "%s: memory grew by %ld KiB", hostilities[i].name,
                        growth);

            guest_tell("DELETE", "/faults", "");
            guest_client_call(decent);
        }
    }

    static const char *const places[] = {"http", "https_h1"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        guest_tell("POST", "/reset", "");
        guest_tell("POST", "/faults",
                   "[{\"method\":\"delete\",\"times\":1,\"fault\":{\"twice\":true}}]");
        expect_right_answer(places[i]);
    }

    greenapi_client_free(decent);
    return guest_passed("%zu kinds of hostile servers: every call ended within %" PRId64
                        " ms with a timeout of %d, memory grew "
                        "by at most %ld KiB",
                        sizeof hostilities / sizeof *hostilities, slowest, TIMEOUT_MS, most);
}
