/*
 * Makes a call whose need of memory the account or the caller decides, while large allocations
 * fail: only those that no block of the library's reserve can replace.
 *
 *   LD_PRELOAD=…/shortage.so large SHAPE COUNT N alone|all FIRST_ID
 *
 * COUNT: how many instances there are, from FIRST_ID on. N: which of the large allocations fails;
 * 0 = none. Prints how many there were. A call must succeed as a whole or report that there is no
 * memory, and the next call must succeed.
 */
#include "memory.h"

enum { LARGE = 1 << 20, MOST = 100000, CALLS = 100, WHOLE_TIME_LIMIT = 60 };

static void (*begin)(long, bool);
static long (*end)(void);

static long number;
static bool all;
static size_t count;
static int64_t first;

static greenapi_client *make_client(greenapi_status *status)
{
    greenapi_options options;
    greenapi_result error;
    greenapi_client *client = NULL;
    greenapi_options_init(&options, sizeof options);
    options.timeout_ms = 30000;
    options.journal = getenv("GREENAPI_JOURNAL");
    if (getenv("GREENAPI_SESSION") != NULL)
        options.session = (uint32_t)atoi(getenv("GREENAPI_SESSION"));
    *status = greenapi_client_new(guest_url(), guest_token(), &options, &client, &error);
    look_at(&error);
    return client;
}

static void expect(int status, int wanted, bool disturbed)
{
    guest_check(status == wanted || (disturbed && status == GREENAPI_STATUS_OUT_OF_RESOURCES),
                "%s memory: status %d", disturbed ? "without" : "with", status);
}

static void delete_one(greenapi_client *client, int64_t id, int wanted, bool disturbed)
{
    greenapi_result result;
    greenapi_client_delete_instance(client, id, &result);
    look_at(&result);
    expect(result.status, wanted, disturbed);
}

static void list(greenapi_client *client, uint32_t flags, bool disturbed)
{
    static greenapi_instance instances[5000];
    greenapi_result result;
    greenapi_list *list = NULL;
    size_t taken = 0;
    expect(greenapi_client_list_instances(client, flags, &list, &result), GREENAPI_STATUS_OK,
           disturbed);
    if (list == NULL)
        return;
    /* While these calls take place, the list is read as far as it can be without its taker. */
    for (int i = 0; i < CALLS; i++)
        delete_one(client, first - 1, GREENAPI_STATUS_NOT_FOUND, disturbed);
    while (!greenapi_list_ended(list, &result))
        taken += greenapi_list_take(list, instances, sizeof instances / sizeof *instances, -1);
    greenapi_list_free(list);
    look_at(&result);
    expect(result.status, GREENAPI_STATUS_OK, disturbed);
    guest_check(result.status != GREENAPI_STATUS_OK || taken == count, "%zu of %zu instances",
                taken, count);
}

static void plain(greenapi_client *client, bool disturbed)
{
    list(client, 0, disturbed);
}

static void states(greenapi_client *client, bool disturbed)
{
    list(client, GREENAPI_LIST_STATES, disturbed);
}

static void session(greenapi_client *client, bool disturbed)
{
    delete_one(client, first + disturbed, GREENAPI_STATUS_OK, disturbed);
}

/* A client opens a journal with many ids. */
static void journal(greenapi_client *client, bool disturbed)
{
    greenapi_status status;
    greenapi_client_free(client);
    client = make_client(&status);
    expect(status, GREENAPI_STATUS_OK, disturbed);
    if (client != NULL)
        delete_one(client, first + (int64_t)count, GREENAPI_STATUS_NOT_FOUND, disturbed);
    greenapi_client_free(client);
}

static bool stop(size_t done, size_t total, const greenapi_result *last, void *user_data)
{
    (void)done, (void)total, (void)user_data;
    look_at(last);
    return false;
}

/* Many ids are cancelled as soon as the first has a result. */
static void bulk(greenapi_client *client, bool disturbed)
{
    static int64_t ids[MOST];
    static greenapi_result results[MOST];
    for (size_t i = 0; i < count; i++)
        ids[i] = first + (int64_t)i;
    greenapi_client_delete_instances(client, ids, count, results, stop, NULL);
    for (size_t i = 0; i < count; i++) {
        look_at(&results[i]);
        int status = results[i].status;
        if (status != GREENAPI_STATUS_CANCELLED && status != GREENAPI_STATUS_CANCELLED_IN_FLIGHT)
            expect(status, GREENAPI_STATUS_NOT_FOUND, disturbed);
    }
}

static const struct {
    const char *name;
    void (*run)(greenapi_client *client, bool disturbed);
} SHAPES[] = {
    {"list", plain}, {"states", states}, {"session", session}, {"journal", journal}, {"bulk", bulk},
};

int main(int argc, char **argv)
{
    if (argc != 6) {
        dprintf(STDERR_FILENO, "large SHAPE COUNT N alone|all FIRST_ID\n");
        return GUEST_MISUSED;
    }
    count = strtoul(argv[2], NULL, 10);
    number = atol(argv[3]);
    all = strcmp(argv[4], "all") == 0;
    first = atoll(argv[5]);
    guest_check(count <= MOST, "too many instances");
    *(void **)&begin = shortage_function("shortage_begin");
    *(void **)&end = shortage_function("shortage_end");
    void (*from)(size_t);
    *(void **)&from = shortage_function("shortage_from");
    alarm(WHOLE_TIME_LIMIT);
    size_t shape = 0;
    while (strcmp(SHAPES[shape].name, argv[1]) != 0)
        guest_check(++shape < sizeof SHAPES / sizeof *SHAPES, "unknown shape %s", argv[1]);
    from(LARGE);
    bool opens = SHAPES[shape].run == journal;
    greenapi_status status;
    greenapi_client *client = opens ? NULL : make_client(&status);
    begin(number, all);
    SHAPES[shape].run(client, true);
    dprintf(STDOUT_FILENO, "%ld\n", end());
    if (SHAPES[shape].run == states) /* whose instances may be asked only once a second */
        plain(client, false);
    else
        SHAPES[shape].run(client, false);
    if (!opens)
        greenapi_client_free(client);
    return 0;
}
