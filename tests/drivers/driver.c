/*
 * The C driver for the tables of test cases that run in every language. Deletes instances in one
 * MODE (one_call, client, queue, bulk) and prints one line with the result of each id; or lists the
 * account's instances (list).
 *
 * Environment: GREENAPI_URL, GREENAPI_TOKEN, and optionally GREENAPI_CA_FILE,
 * GREENAPI_MAX_RETRIES, GREENAPI_TIMEOUT_MS, GREENAPI_SESSION (0 to 3, ignore,
 * require_logged_out, log_out or try_log_out). one_call has no options and ignores the optional
 * ones.
 * Ids come on standard input, one per line.
 *
 * Line: id, status number, code, http_status, attempts, status name, message; separated by tabs.
 * one_call does not get http_status and attempts and prints "-" for each. If the client cannot be
 * made, that error is printed for every id.
 *
 * list takes no ids, and asks for states where GREENAPI_STATES is set. Line of an instance:
 * "instance", id, state number, the times created, deleted and expires in seconds since 1970 ("-"
 * for none), whether it is deleted, expired, free and a partner's (0 or 1); then type, tariff and
 * name, each as hexadecimal bytes. The last line has the form of a deletion's, with the id 0, and
 * says how the list ended; languages that do not report a field after a complete list print "-".
 */
#include <errno.h>
#include <greenapi.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("driver: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static void *allocate(void *old, size_t count, size_t size)
{
    void *memory = reallocarray(old, count > 0 ? count : 1, size);
    if (memory == NULL)
        die("out of memory");
    return memory;
}

static const char *required(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL)
        die("set %s", name);
    return value;
}

static uint32_t number(const char *name, uint32_t otherwise)
{
    const char *text = getenv(name);
    if (text == NULL)
        return otherwise;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value > UINT32_MAX)
        die("%s must be a number up to %" PRIu32 ", not \"%s\"", name, UINT32_MAX, text);
    return (uint32_t)value;
}

static uint32_t session(uint32_t otherwise)
{
    static const char *const names[] = {"ignore", "require_logged_out", "log_out", "try_log_out"};
    const char *text = getenv("GREENAPI_SESSION");
    for (uint32_t i = 0; text != NULL && i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    return number("GREENAPI_SESSION", otherwise);
}

static size_t read_ids(int64_t **ids)
{
    size_t count = 0, capacity = 0;
    char line[64];
    *ids = allocate(NULL, 0, sizeof **ids);
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *end;
        errno = 0;
        int64_t id = strtoll(line, &end, 10);
        if (end == line || (*end != '\n' && *end != '\0') || errno != 0)
            die("standard input must hold one id per line, not \"%.*s\"", (int)strcspn(line, "\n"),
                line);
        if (count == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 64;
            *ids = allocate(*ids, capacity, sizeof **ids);
        }
        (*ids)[count++] = id;
    }
    return count;
}

static void print(const greenapi_result *result)
{
    printf("%" PRId64 "\t%" PRId32 "\t%" PRId32 "\t%" PRId32 "\t%" PRIu32 "\t%s\t%s\n", result->id,
           (int32_t)result->status, result->code, result->http_status, result->attempts,
           greenapi_status_name(result->status), result->message);
}

static void one_call(const char *url, const char *token, const int64_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int code;
        greenapi_status status = greenapi_delete_instance(url, token, ids[i], &code);
        printf("%" PRId64 "\t%" PRId32 "\t%d\t-\t-\t%s\t%s\n", ids[i], (int32_t)status, code,
               greenapi_status_name(status), greenapi_status_message(status));
    }
}

static void blocking(greenapi_client *client, const int64_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        greenapi_result result;
        greenapi_client_delete_instance(client, ids[i], &result);
        print(&result);
    }
}

/* A submission that is refused has no result, so its line is made from the status. */
static void queued(greenapi_client *client, const int64_t *ids, size_t count)
{
    greenapi_queue *queue;
    greenapi_status status = greenapi_queue_new(&queue);
    if (status != GREENAPI_STATUS_OK)
        die("greenapi_queue_new: %s", greenapi_status_message(status));

    size_t under_way = 0;
    for (size_t i = 0; i < count; i++) {
        status = greenapi_queue_submit(queue, client, ids[i], i);
        if (status == GREENAPI_STATUS_OK) {
            under_way++;
        } else {
            greenapi_result refused = {.tag = i, .id = ids[i], .status = status};
            snprintf(refused.message, sizeof refused.message, "%s",
                     greenapi_status_message(status));
            print(&refused);
        }
    }

    greenapi_result results[32];
    while (under_way > 0) {
        size_t taken = greenapi_queue_take(queue, results, 32, -1);
        if (taken == 0)
            die("the queue ended with %zu results missing", under_way);
        for (size_t i = 0; i < taken; i++) {
            if (results[i].tag >= count || ids[results[i].tag] != results[i].id)
                die("tag %" PRIu64 " came back with id %" PRId64, results[i].tag, results[i].id);
            print(&results[i]);
        }
        under_way -= taken;
    }
    greenapi_queue_free(queue);
}

static void bulk(greenapi_client *client, const int64_t *ids, size_t count)
{
    greenapi_result *results = allocate(NULL, count, sizeof *results);
    greenapi_client_delete_instances(client, ids, count, results, NULL, NULL);
    for (size_t i = 0; i < count; i++)
        print(&results[i]);
    free(results);
}

static void print_time(int64_t seconds)
{
    if (seconds == 0)
        fputs("\t-", stdout);
    else
        printf("\t%" PRId64, seconds);
}

static void print_text(const char *text)
{
    putchar('\t');
    for (; *text != '\0'; text++)
        printf("%02x", (unsigned char)*text);
}

static void print_instance(const greenapi_instance *one)
{
    printf("instance\t%" PRId64 "\t%" PRId32, one->id, one->state);
    print_time(one->created);
    print_time(one->deleted);
    print_time(one->expires);
    printf("\t%d\t%d\t%d\t%d", (one->flags & GREENAPI_INSTANCE_DELETED) != 0,
           (one->flags & GREENAPI_INSTANCE_EXPIRED) != 0,
           (one->flags & GREENAPI_INSTANCE_FREE) != 0,
           (one->flags & GREENAPI_INSTANCE_PARTNER) != 0);
    print_text(one->type);
    print_text(one->tariff);
    print_text(one->name);
    putchar('\n');
}

static void list(greenapi_client *client, const int64_t *ids, size_t count)
{
    (void)ids;
    (void)count;
    greenapi_list *list;
    greenapi_result end;
    uint32_t flags = getenv("GREENAPI_STATES") != NULL ? GREENAPI_LIST_STATES : 0;
    if (greenapi_client_list_instances(client, flags, &list, &end) == GREENAPI_STATUS_OK) {
        greenapi_instance instances[32];
        for (;;) {
            size_t taken = greenapi_list_take(list, instances, 32, -1);
            for (size_t i = 0; i < taken; i++)
                print_instance(&instances[i]);
            if (taken == 0 && greenapi_list_ended(list, &end))
                break;
        }
    }
    print(&end);
    greenapi_list_free(list);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        die("usage: driver one_call|client|queue|bulk|list < ids");
    const char *mode = argv[1];
    const char *url = required("GREENAPI_URL");
    const char *token = required("GREENAPI_TOKEN");
    int64_t *ids;
    size_t count = read_ids(&ids);

    if (strcmp(mode, "one_call") == 0) {
        one_call(url, token, ids, count);
        free(ids);
        return 0;
    }

    void (*run)(greenapi_client *, const int64_t *, size_t) = strcmp(mode, "client") == 0 ? blocking
                                                              : strcmp(mode, "queue") == 0 ? queued
                                                              : strcmp(mode, "bulk") == 0  ? bulk
                                                              : strcmp(mode, "list") == 0  ? list
                                                                                           : NULL;
    if (run == NULL)
        die("\"%s\" is no mode: one_call, client, queue, bulk or list", mode);

    greenapi_options options;
    greenapi_options_init(&options, sizeof options);
    options.ca_file = getenv("GREENAPI_CA_FILE");
    options.max_retries = number("GREENAPI_MAX_RETRIES", options.max_retries);
    options.timeout_ms = number("GREENAPI_TIMEOUT_MS", options.timeout_ms);
    options.session = session(options.session);

    greenapi_client *client;
    greenapi_result refusal;
    if (greenapi_client_new(url, token, &options, &client, &refusal) == GREENAPI_STATUS_OK) {
        run(client, ids, count);
    } else {
        for (size_t i = 0; i < count; i++) {
            refusal.id = ids[i];
            print(&refusal);
        }
    }
    greenapi_client_free(client);
    free(ids);
    return 0;
}
