/*
 * Passes invalid values for every parameter of every function: NULL, empty and very long texts,
 * invalid UTF-8, control characters, numbers out of range. Each call must return a status without
 * crashing and write its output parameters, and no message may contain the token.
 *
 * Fixed values come first, then random ones; GREENAPI_SEED repeats a run.
 */
#include "guest.h"
#include <float.h>
#include <limits.h>
#include <math.h>

enum { RANDOM_ROUNDS = 20000, HUGE_TEXT = 4 << 20 };

/* No four consecutive characters of the token occur in a message by chance. */
#define SECRET "gac.Qz7WxK9vJp3R"

static char *huge;

static greenapi_result poisoned(void)
{
    greenapi_result result;
    memset(&result, 0xEE, sizeof result);
    return result;
}

/* How many bytes follow the first byte of a UTF-8 character; -1 if that byte is invalid. */
static int bytes_after(unsigned char lead)
{
    if (lead < 0x80)
        return 0;
    if (lead < 0xC2 || lead > 0xF4)
        return -1;
    return lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
}

static void check_text(const char *what, const char *text, size_t capacity)
{
    size_t length = strnlen(text, capacity);
    guest_check(length < capacity, "%s: the message is not terminated", what);
    guest_check(length > 10, "%s: \"%s\" is not a sentence", what, text);
    for (const char *secret = SECRET; strlen(secret) >= 4; secret++) {
        char piece[5] = "";
        memcpy(piece, secret, 4);
        guest_check(strcmp(piece, "gac.") == 0 || strstr(text, piece) == NULL,
                    "%s: the message shows the token: %s", what, text);
    }
    for (size_t i = 0; i < length; i++)
        guest_check((unsigned char)text[i] >= ' ' && text[i] != 0x7F,
                    "%s: a control character in \"%s\"", what, text);
    for (size_t i = 0; i < length;) {
        unsigned char lead = (unsigned char)text[i++];
        int more = bytes_after(lead);
        guest_check(more >= 0, "%s: the message is not UTF-8", what);
        while (more-- > 0)
            guest_check(((unsigned char)text[i++] & 0xC0) == 0x80, "%s: the message is not UTF-8",
                        what);
    }
}

static void expect_refused(const char *what, greenapi_status status)
{
    guest_check(status == GREENAPI_STATUS_INVALID_ARGUMENT, "%s gave %s", what,
                greenapi_status_name(status));
}

/* The result of a refused call must be written completely. */
static void expect_refusal(const char *what, greenapi_status status, const greenapi_result *result)
{
    expect_refused(what, status);
    guest_check(result->status == status && result->code == 0 && result->http_status == 0 &&
                    result->attempts == 0 && result->tag == 0,
                "%s: the result has another status than the one returned", what);
    check_text(what, result->message, sizeof result->message);
}

/* ---- url and token ---- */

static const char *const bad_urls[] = {
    NULL,
    "",
    " ",
    "/",
    "//",
    "http",
    "https:",
    "https://",
    "https:///",
    "https://:443",
    "https://:443/",
    "localhost",
    "127.0.0.1:80",
    "ftp://127.0.0.1",
    "file:///etc/passwd",
    "javascript:1",
    "HTTPS//127.0.0.1",
    "http://example.invalid",
    "http://192.0.2.1",
    "http://127.0.0.1.example.invalid",
    "http://localhost.example.invalid",
    "http://[2001:db8::1]",
    "https://[::1",
    "https://[zz]",
    "https://127.0.0.1:65536",
    "https://127.0.0.1:-1",
    "https://127.0.0.1:port",
    "https://u@127.0.0.1",
    "https://u:p@127.0.0.1",
    "https://@127.0.0.1",
    "https://127.0.0.1?x=1",
    "https://127.0.0.1/?x",
    "https://127.0.0.1/#x",
    "https://127.0.0.1#",
    "https://exa mple.invalid",
    "https://exa\nmple.invalid",
    "https://127.0.0.1/\r\nX-Injected: 1",
    "https://\x01/",
    "https://127.0.0.1/\x7f",
    "\xff\xfe",
    "https://\xff\xfe",
    "https://127.0.0.1/\xc3\x28",
    "https://127.0.0.1/\xed\xa0\x80",
    "https://%00/",
    "https://-/%zz\x80",
    "https://xn--/\xc0\x80",
};

static const char *const bad_tokens[] = {
    NULL,
    "",
    ".",
    "..",
    "\n",
    SECRET "\n",
    SECRET "\r\nX-Injected: 1",
    "\t" SECRET,
    SECRET "\x01",
    SECRET "\x7f",
    SECRET "\xff",
    "\xc3\x28",
    "\xed\xa0\x80",
    "\xc0\x80",
    SECRET "\xc2\x85",
};

static void refuse(const char *url, const char *token)
{
    char what[128];
    snprintf(what, sizeof what, "url \"%.80s\" with %s token", url != NULL ? url : "NULL",
             token == NULL                ? "no"
             : strcmp(token, SECRET) == 0 ? "a good"
                                          : "a wrong");
    int code = 12345;
    expect_refused(what, greenapi_delete_instance(url, token, 1, &code));
    guest_check(code == 0, "out_code was left at %d", code);
    expect_refused(what, greenapi_delete_instance(url, token, 1, NULL));

    greenapi_client *client = (greenapi_client *)-1;
    greenapi_result result = poisoned();
    expect_refusal(what, greenapi_client_new(url, token, NULL, &client, &result), &result);
    guest_check(client == NULL, "%s: out_client was not written", what);
    expect_refused(what, greenapi_client_new(url, token, NULL, NULL, NULL));
}

static void urls_and_tokens(void)
{
    for (size_t i = 0; i < sizeof bad_urls / sizeof *bad_urls; i++)
        refuse(bad_urls[i], SECRET);
    for (size_t i = 0; i < sizeof bad_tokens / sizeof *bad_tokens; i++)
        refuse("https://127.0.0.1:9", bad_tokens[i]);
    refuse(huge, SECRET);
    refuse(NULL, NULL);

    /* No token can change the path: each of these is sent as one segment, and refused as wrong. */
    static const char *const odd_tokens[] = {"/",     "?",   "#",        "%", "%2e%2e",
                                             "../..", "a b", "\xc3\xa4", ";", "a/../b",
                                             "...",   "\\",  "%00",      "{}"};
    for (size_t i = 0; i < sizeof odd_tokens / sizeof *odd_tokens; i++) {
        int code = -1;
        greenapi_status status = greenapi_delete_instance(guest_url(), odd_tokens[i], 1, &code);
        guest_check(status == GREENAPI_STATUS_UNAUTHORIZED && code == 401,
                    "token \"%s\" gave %s with code %d", odd_tokens[i],
                    greenapi_status_name(status), code);
    }
}

/* A text that is too long is refused without a copy, for which there may be no memory. */
static void huge_texts_without_memory(void)
{
    greenapi_options options = guest_options();
    options.ca_file = huge;
    greenapi_client *client = NULL;
    greenapi_result result = poisoned();
    struct rlimit before;
    getrlimit(RLIMIT_AS, &before);
    guest_limit_memory(2);
    refuse(huge, SECRET);
    refuse("https://127.0.0.1:9", huge);
    greenapi_status status =
        greenapi_client_new("https://127.0.0.1:9", SECRET, &options, &client, &result);
    setrlimit(RLIMIT_AS, &before);
    expect_refusal("a huge ca_file", status, &result);
}

static void ids(greenapi_client *client, greenapi_queue *queue)
{
    static const int64_t bad_ids[] = {0, -1, 10000000000, INT64_MAX, INT64_MIN, INT32_MIN};
    for (size_t i = 0; i < sizeof bad_ids / sizeof *bad_ids; i++) {
        int code = 12345;
        expect_refused("a wrong id",
                       greenapi_delete_instance(guest_url(), guest_token(), bad_ids[i], &code));
        guest_check(code == 0, "out_code was left at %d", code);
        greenapi_result result = poisoned();
        expect_refusal("a wrong id", greenapi_client_delete_instance(client, bad_ids[i], &result),
                       &result);
        guest_check(result.id == bad_ids[i], "the result is about another id");
        expect_refused("a wrong id", greenapi_client_delete_instance(client, bad_ids[i], NULL));
        guest_check(greenapi_queue_submit(queue, client, bad_ids[i], 0) == GREENAPI_STATUS_OK,
                    "a wrong id was not submitted");
        guest_check(greenapi_queue_take(queue, &result, 1, -1) == 1, "a wrong id has no result");
        expect_refusal("a wrong id", result.status, &result);
        guest_check(result.id == bad_ids[i], "the result is about another id");
    }
    guest_check(greenapi_queue_take(queue, NULL, 0, -1) == 0, "a submission came back twice");
}

/* ---- options ---- */

/* `name`: the option that the message must name; `number`: which of its wrong values it is. */
static void refuse_options(const char *name, size_t number, const greenapi_options *options)
{
    char what[64];
    snprintf(what, sizeof what, "wrong value %zu of %s", number, name);
    greenapi_client *client = (greenapi_client *)-1;
    greenapi_result result = poisoned();
    expect_refusal(what, greenapi_client_new(guest_url(), SECRET, options, &client, &result),
                   &result);
    guest_check(client == NULL, "%s: out_client was not written", what);
    guest_check(strstr(result.message, name) != NULL, "%s: the message lacks the name: %s", what,
                result.message);
}

#define REFUSE(member, ...)                                                                        \
    do {                                                                                           \
        const __typeof__(((greenapi_options *)0)->member) values[] = {__VA_ARGS__};                \
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {                              \
            greenapi_options options;                                                              \
            greenapi_options_init(&options, sizeof options);                                       \
            options.member = values[i];                                                            \
            refuse_options(#member, i, &options);                                                  \
        }                                                                                          \
    } while (0)

static void options(void)
{
    REFUSE(timeout_ms, 0);
    REFUSE(connect_timeout_ms, 0);
    REFUSE(max_in_flight, 0);
    REFUSE(requests_per_second, -1, -DBL_MIN, NAN, -NAN, INFINITY, -INFINITY);
    REFUSE(session, 4, 255, UINT32_MAX);
    REFUSE(flags, 2, 0x80000000U, UINT32_MAX);
    REFUSE(ca_file, "", "/nonexistent/ca.pem", "/dev/null", "/", "\xff", "\n");
    REFUSE(proxy, "://", "ftp://127.0.0.1:1", "http://", "http://\xff", "http://127.0.0.1:99999",
           "\n", "http://u:" SECRET "\n@127.0.0.1:1");
    REFUSE(ca_pem, "", "no PEM", "\xff", "-----BEGIN CERTIFICATE-----\n");
    REFUSE(user_agent, "\n", "a\r\nX-Injected: 1", "\x7f", "\xff", "\x01");

    /* A smaller size is an older header's; the additional bytes of a larger one must be 0. */
    struct {
        greenapi_options options;
        unsigned char more[64];
    } newer;
    greenapi_client *client;
    greenapi_result result;
    memset(&newer, 0, sizeof newer);
    greenapi_options_init(&newer.options, sizeof newer.options);
    for (size_t size = 0; size <= sizeof newer; size++) {
        newer.options.size = size;
        client = (greenapi_client *)-1;
        result = poisoned();
        greenapi_status status =
            greenapi_client_new(guest_url(), guest_token(), &newer.options, &client, &result);
        guest_check((status == GREENAPI_STATUS_OK) == (client != NULL),
                    "size %zu: %s and %s client", size, greenapi_status_name(status),
                    client != NULL ? "a" : "no");
        if (size >= sizeof newer.options)
            guest_check(status == GREENAPI_STATUS_OK, "size %zu with zeros: %s", size,
                        result.message);
        greenapi_client_free(client);
    }
    newer.options.size = sizeof newer;
    for (size_t i = 0; i < sizeof newer.more; i++) {
        newer.more[i] = 1;
        refuse_options("options", i, &newer.options);
        newer.more[i] = 0;
    }
    newer.options.size = SIZE_MAX;
    newer.more[0] = 1; /* the library refuses at this byte, and must not read beyond the struct */
    refuse_options("options", sizeof newer.more, &newer.options);

    /* greenapi_options_init must not write beyond the size that it is given. */
    greenapi_options_init(NULL, 0);
    greenapi_options_init(NULL, sizeof newer);
    for (size_t size = 0; size <= sizeof newer; size++) {
        memset(&newer, 0xEE, sizeof newer);
        greenapi_options_init(&newer.options, size);
        for (size_t i = size; i < sizeof newer; i++)
            guest_check(((unsigned char *)&newer)[i] == 0xEE,
                        "greenapi_options_init wrote beyond size %zu", size);
    }
}

/* ---- handles and counts ---- */

static bool never(size_t done, size_t total, const greenapi_result *last, void *user_data)
{
    (void)done;
    (void)total;
    (void)last;
    (void)user_data;
    return false;
}

static void handles(greenapi_client *client, greenapi_queue *queue)
{
    const int64_t some[] = {GUEST_ID, 0, GUEST_ID, -5};
    greenapi_result results[4], result = poisoned();

    greenapi_client_free(NULL);
    greenapi_queue_free(NULL);
    expect_refusal("a NULL client", greenapi_client_delete_instance(NULL, 1, &result), &result);
    expect_refused("a NULL client", greenapi_client_delete_instance(NULL, 1, NULL));
    expect_refused("no out_queue", greenapi_queue_new(NULL));
    guest_check(greenapi_queue_fd(NULL) == -1, "greenapi_queue_fd(NULL) is %d",
                greenapi_queue_fd(NULL));
    expect_refused("a NULL queue", greenapi_queue_submit(NULL, client, 1, 1));
    expect_refused("a NULL client", greenapi_queue_submit(queue, NULL, 1, 1));
    guest_check(greenapi_queue_cancel(NULL, 1) == 0 && greenapi_queue_cancel(queue, 1) == 0,
                "cancelling an idle queue reported a cancellation");
    guest_check(greenapi_queue_take(NULL, results, 4, -1) == 0, "a NULL queue gave results");
    static const int timeouts[] = {0, 1, -1, -2, INT_MIN, INT_MAX};
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        guest_check(greenapi_queue_take(queue, results, 4, timeouts[i]) == 0,
                    "an empty queue gave results");
        guest_check(greenapi_queue_take(queue, results, 0, timeouts[i]) == 0,
                    "results were taken with a capacity of 0");
        guest_check(greenapi_queue_take(queue, NULL, 0, timeouts[i]) == 0,
                    "results were taken with a capacity of 0");
        guest_check(greenapi_queue_take(queue, NULL, 4, timeouts[i]) == 0,
                    "results were taken to NULL");
    }

    /* A take that cannot write a result must leave it in the queue. */
    guest_submit(queue, client, 9);
    struct pollfd wait = {.fd = greenapi_queue_fd(queue), .events = POLLIN};
    guest_check(poll(&wait, 1, 10000) == 1, "no result");
    guest_check(greenapi_queue_take(queue, NULL, 1, 0) == 0 &&
                    greenapi_queue_take(queue, results, 0, -1) == 0,
                "results were taken to NULL");
    guest_check(greenapi_queue_take(queue, results, 1, -1) == 1 && results[0].tag == 9,
                "a result got lost");

    memset(results, 0xEE, sizeof results);
    expect_refused("a NULL client",
                   greenapi_client_delete_instances(NULL, some, 4, results, never, NULL));
    for (size_t i = 0; i < 4; i++)
        guest_check(results[i].status == GREENAPI_STATUS_INVALID_ARGUMENT &&
                        results[i].id == some[i],
                    "result %zu of a refused bulk call was not written", i);
    expect_refused("NULL ids",
                   greenapi_client_delete_instances(client, NULL, 4, results, NULL, NULL));
    guest_check(greenapi_client_delete_instances(client, NULL, 0, NULL, NULL, NULL) ==
                    GREENAPI_STATUS_OK,
                "a bulk call without ids failed");
    expect_refused("a count beyond memory",
                   greenapi_client_delete_instances(client, NULL, SIZE_MAX, NULL, NULL, NULL));
    guest_check(greenapi_client_delete_instances(client, some, 4, results, NULL, NULL) ==
                    GREENAPI_STATUS_NOT_FOUND,
                "the call did not return the first status that is not a deletion");
    guest_check(results[0].status == GREENAPI_STATUS_NOT_FOUND &&
                    results[1].status == GREENAPI_STATUS_INVALID_ARGUMENT &&
                    results[2].status == GREENAPI_STATUS_NOT_FOUND &&
                    results[3].status == GREENAPI_STATUS_INVALID_ARGUMENT && results[3].id == -5,
                "a wrong id affected the results of other ids");
    guest_check(greenapi_client_delete_instances(client, some, 1, NULL, NULL, NULL) ==
                    GREENAPI_STATUS_NOT_FOUND,
                "the call failed with out_results NULL");
}

static void numbers(void)
{
    for (int64_t number = -100; number <= 100; number++) {
        int32_t status = (int32_t)number;
        guest_check(strncmp(greenapi_status_name(status), "GREENAPI_STATUS_", 16) == 0,
                    "status %d has no name", status);
        check_text("greenapi_status_message", greenapi_status_message(status), 1024);
        greenapi_effect effect = greenapi_status_effect(status);
        greenapi_effect expected = status >= 0 && status < 10    ? GREENAPI_EFFECT_DELETED
                                   : status >= 10 && status < 30 ? GREENAPI_EFFECT_NOT_DELETED
                                                                 : GREENAPI_EFFECT_UNKNOWN;
        guest_check(effect == expected, "status %d has effect %d", status, (int)effect);
    }
    static const int32_t extremes[] = {INT32_MIN, INT32_MAX, 1 << 30};
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++) {
        check_text("greenapi_status_message", greenapi_status_message(extremes[i]), 1024);
        guest_check(greenapi_status_name(extremes[i])[0] != '\0' &&
                        greenapi_status_effect(extremes[i]) == GREENAPI_EFFECT_UNKNOWN,
                    "status %d is not harmless", extremes[i]);
    }
}

/* ---- random ---- */

static void random_text(unsigned *seed, char *text, size_t capacity)
{
    static const char *const pieces[] = {
        "https://", "http://", "127.0.0.1", "localhost", "[::1]",
        ":",        "/",       "@",         "%",         "?",
        "#",        "..",      "\xc3",      "\xa4",      "\xf0\x9f\x98\x80",
        " ",        "\t",      "65535",     "%2f"};
    size_t length = 0, parts = (size_t)rand_r(seed) % 8;
    for (size_t i = 0; i < parts && length + 16 < capacity; i++) {
        if (rand_r(seed) % 3 == 0) {
            text[length++] = (char)(1 + rand_r(seed) % 255);
        } else {
            const char *piece = pieces[(size_t)rand_r(seed) % (sizeof pieces / sizeof *pieces)];
            memcpy(text + length, piece, strlen(piece));
            length += strlen(piece);
        }
    }
    text[length] = '\0';
}

/* Makes clients with random arguments. Making a client never connects, whatever the URL. */
static unsigned long random_clients(unsigned seed)
{
    unsigned long accepted = 0;
    for (int round = 0; round < RANDOM_ROUNDS; round++) {
        char texts[5][192];
        for (size_t i = 0; i < 5; i++)
            random_text(&seed, texts[i], sizeof texts[i]);
        greenapi_options some;
        greenapi_options_init(&some, sizeof some);
        if (rand_r(&seed) % 4 == 0)
            for (unsigned char *byte = (unsigned char *)&some.timeout_ms;
                 byte < (unsigned char *)&some.ca_file; byte++)
                *byte = (unsigned char)rand_r(&seed);
        if (rand_r(&seed) % 4 == 0)
            some.user_agent = texts[2];
        if (rand_r(&seed) % 4 == 0)
            some.proxy = texts[3];
        if (rand_r(&seed) % 8 == 0)
            some.ca_file = texts[4];

        greenapi_client *client = (greenapi_client *)-1;
        greenapi_result result = poisoned();
        greenapi_status status = greenapi_client_new(
            rand_r(&seed) % 4 == 0 ? texts[0] : "https://127.0.0.1:9",
            rand_r(&seed) % 4 == 0 ? texts[1] : SECRET, &some, &client, &result);
        if (status == GREENAPI_STATUS_OK) {
            guest_check(client != NULL && result.status == GREENAPI_STATUS_OK,
                        "OK without a client, or with an error");
            accepted++;
        } else {
            expect_refusal("random arguments", status, &result);
            guest_check(client == NULL, "a refused call wrote a client");
        }
        greenapi_client_free(client);
    }
    return accepted;
}

int main(void)
{
    guest_begin(120);
    guest_tell("POST", "/reset", "");
    huge = malloc(HUGE_TEXT + 1);
    guest_check(huge != NULL, "out of memory");
    memset(huge, 'a', HUGE_TEXT);
    memcpy(huge, "https://", 8);
    huge[HUGE_TEXT] = '\0';

    numbers();
    urls_and_tokens();
    huge_texts_without_memory();
    options();
    greenapi_client *client = guest_client();
    greenapi_queue *queue = guest_queue();
    ids(client, queue);
    handles(client, queue);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    free(huge);

    const char *given = getenv("GREENAPI_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    printf("seed %u\n", seed);
    fflush(stdout);
    unsigned long accepted = random_clients(seed);
    guest_check(accepted > 0 && accepted < RANDOM_ROUNDS, "%lu of %d random clients were accepted",
                accepted, RANDOM_ROUNDS);
    return guest_passed(
        "every wrong argument was refused with a message, and so were %lu of %d random ones",
        RANDOM_ROUNDS - accepted, RANDOM_ROUNDS);
}
