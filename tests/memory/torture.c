/*
 * Makes one kind of call while one allocation of the process fails:
 *
 *   LD_PRELOAD=…/shortage.so torture SHAPE cold|warm N alone|all FIRST_ID
 *
 * Prints how many allocations there were, the result of each id, and the results of calls that were
 * made afterwards, with memory available again:
 *
 *   seen COUNT
 *   during ID STATUS ATTEMPTS
 *   after ID STATUS ATTEMPTS
 *
 * tests/memory.rs runs it for each N and compares with the stand-in's ledger. The options come from
 * the environment, as for tests/drivers.
 */
#include "memory.h"

#include <netdb.h>

enum { COUNT = 20, WHOLE_TIME_LIMIT = 30 };

static void (*begin)(long, bool);
static long (*end)(void);

static bool warm;
static long number;
static bool all;
static int64_t next_id;

/* The results, which are printed only once there is memory again, because printing needs memory. */
static greenapi_result said[COUNT];
static size_t said_count;

static void keep(int64_t id, int status, unsigned attempts)
{
    said[said_count].id = id;
    said[said_count].status = (greenapi_status)status;
    said[said_count++].attempts = attempts;
}

static void print(const char *when, int64_t id, int status, unsigned attempts)
{
    dprintf(STDOUT_FILENO, "%s %" PRId64 " %d %u\n", when, id, status, attempts);
}

static void fail_from_here(void)
{
    begin(number, all);
}

static void memory_is_back(void)
{
    if (number > 0 && all) {
        /* The library must not stand in for its program's allocator. */
        void *volatile own = malloc(100);
        guest_check(own == NULL || end() < number, "the program's own malloc got memory");
    }
    dprintf(STDOUT_FILENO, "seen %ld\n", end());
    for (size_t i = 0; i < said_count; i++)
        print("during", said[i].id, said[i].status, said[i].attempts);
}

static greenapi_options read_options(void)
{
    greenapi_options options;
    greenapi_options_init(&options, sizeof options);
    /* Longer than any call takes when many programs run at once on few cores. */
    options.timeout_ms = 10000;
    const char *value;
    if ((value = getenv("GREENAPI_CA_FILE")) != NULL)
        options.ca_file = value;
    if ((value = getenv("GREENAPI_CA_PEM")) != NULL)
        options.ca_pem = value;
    if ((value = getenv("GREENAPI_PROXY")) != NULL)
        options.proxy = value;
    if ((value = getenv("GREENAPI_USER_AGENT")) != NULL)
        options.user_agent = value;
    if ((value = getenv("GREENAPI_INSTANCE_URL")) != NULL)
        options.instance_url = value;
    if ((value = getenv("GREENAPI_JOURNAL")) != NULL)
        options.journal = value;
    if ((value = getenv("GREENAPI_SESSION")) != NULL)
        options.session = (uint32_t)atoi(value);
    if ((value = getenv("GREENAPI_MAX_IN_FLIGHT")) != NULL)
        options.max_in_flight = (uint32_t)atoi(value);
    if ((value = getenv("GREENAPI_REQUESTS_PER_SECOND")) != NULL)
        options.requests_per_second = atof(value);
    if (getenv("GREENAPI_ALLOW_HTTP") != NULL)
        options.flags = GREENAPI_FLAG_ALLOW_HTTP;
    return options;
}

static greenapi_client *make_client(greenapi_result *error)
{
    greenapi_options options = read_options();
    greenapi_client *client = NULL;
    greenapi_status status =
        greenapi_client_new(guest_url(), guest_token(), &options, &client, error);
    guest_check((status == GREENAPI_STATUS_OK) == (client != NULL),
                "greenapi_client_new returned %d and %s", (int)status,
                client == NULL ? "no client" : "a client");
    look_at(error);
    return client;
}

/* ---- the shapes ---- */

static void one_call(void)
{
    int code;
    if (warm)
        print("after", next_id,
              greenapi_delete_instance(guest_url(), guest_token(), next_id, &code), 0),
            next_id++;
    fail_from_here();
    keep(next_id, greenapi_delete_instance(guest_url(), guest_token(), next_id, &code), 0);
    next_id++;
    memory_is_back();
    print("after", next_id, greenapi_delete_instance(guest_url(), guest_token(), next_id, &code),
          0);
}

static void client_call(greenapi_client *client, const char *when)
{
    greenapi_result result = {0};
    int64_t id = next_id++;
    greenapi_client_delete_instance(client, id, &result);
    look_at(&result);
    if (when == NULL)
        keep(id, result.status, result.attempts);
    else
        print(when, id, result.status, result.attempts);
}

static void client_calls(greenapi_client *client)
{
    greenapi_result error;
    if (warm)
        client_call(client, "after");
    fail_from_here();
    if (client == NULL)
        client = make_client(&error);
    if (client == NULL)
        keep(next_id++, error.status, 0);
    else
        for (int i = 0; i < 2; i++)
            client_call(client, NULL);
    memory_is_back();
    if (client == NULL)
        client = make_client(&error);
    guest_check(client != NULL, "no client once there is memory again: %s", error.message);
    client_call(client, "after");
    greenapi_client_free(client);
}

static void client(void)
{
    greenapi_result error;
    client_calls(warm ? make_client(&error) : NULL);
}

static bool on_progress(size_t done, size_t total, const greenapi_result *last, void *user_data)
{
    (void)total;
    look_at(last);
    *(size_t *)user_data = done;
    return true;
}

static void bulk(void)
{
    greenapi_result results[COUNT], error;
    int64_t ids[COUNT];
    size_t done = 0;
    greenapi_client *client = warm ? make_client(&error) : NULL;
    if (warm)
        client_call(client, "after");
    fail_from_here();
    if (client == NULL)
        client = make_client(&error);
    for (size_t i = 0; i < COUNT; i++)
        ids[i] = next_id++;
    if (client == NULL) {
        keep(ids[0], error.status, 0);
    } else {
        greenapi_client_delete_instances(client, ids, COUNT, results, on_progress, &done);
        for (size_t i = 0; i < COUNT; i++) {
            look_at(&results[i]);
            guest_check(results[i].id == ids[i], "a result has another id");
            keep(ids[i], results[i].status, results[i].attempts);
        }
    }
    memory_is_back();
    if (client == NULL)
        client = make_client(&error);
    for (size_t i = 0; i < COUNT; i++)
        ids[i] = next_id++;
    greenapi_client_delete_instances(client, ids, COUNT, results, on_progress, &done);
    guest_check(done == COUNT, "progress reported %zu results instead of %d", done, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        print("after", ids[i], results[i].status, results[i].attempts);
    greenapi_client_free(client);
}

/* Uses everything that a queue offers: submits, cancels one tag, waits with the descriptor, takes.
 */
static void queue_calls(greenapi_client *client, greenapi_queue *queue, bool during)
{
    greenapi_result results[COUNT / 2];
    size_t accepted = 0, taken = 0;
    for (size_t i = 0; i < COUNT / 2; i++) {
        int64_t id = next_id++;
        greenapi_status status = greenapi_queue_submit(queue, client, id, i);
        if (status == GREENAPI_STATUS_OK)
            accepted++;
        else if (during)
            keep(id, status, 0);
        else
            print("after", id, status, 0);
    }
    if (during)
        greenapi_queue_cancel(queue, COUNT / 2 - 1);
    while (taken < accepted) {
        struct pollfd wait = {.fd = greenapi_queue_fd(queue), .events = POLLIN};
        guest_check(wait.fd >= 0 && poll(&wait, 1, -1) == 1, "the descriptor is not readable");
        size_t got = greenapi_queue_take(queue, results, COUNT / 2, 0);
        guest_check(got > 0, "the descriptor was readable for nothing");
        for (size_t i = 0; i < got; i++) {
            look_at(&results[i]);
            if (during)
                keep(results[i].id, results[i].status, results[i].attempts);
            else
                print("after", results[i].id, results[i].status, results[i].attempts);
        }
        taken += got;
    }
    guest_check(greenapi_queue_take(queue, results, 1, 0) == 0, "one result too many");
}

static void queue(void)
{
    greenapi_result error;
    greenapi_client *client = warm ? make_client(&error) : NULL;
    greenapi_queue *queue = NULL;
    if (warm) {
        client_call(client, "after");
        guest_check(greenapi_queue_new(&queue) == GREENAPI_STATUS_OK, "no queue");
    }
    fail_from_here();
    if (client == NULL)
        client = make_client(&error);
    if (queue == NULL) {
        greenapi_status status = greenapi_queue_new(&queue);
        guest_check((status == GREENAPI_STATUS_OK) == (queue != NULL),
                    "the status and the queue disagree");
        if (queue == NULL)
            keep(next_id++, status, 0);
    }
    if (client != NULL && queue != NULL)
        queue_calls(client, queue, true);
    memory_is_back();
    if (client == NULL)
        client = make_client(&error);
    if (queue == NULL)
        greenapi_queue_new(&queue);
    guest_check(client != NULL && queue != NULL, "no client or queue once there is memory again");
    queue_calls(client, queue, false);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
}

/* Frees a queue and a client while their deletions are under way and memory is short. */
static void freed(void)
{
    greenapi_result error, results[4];
    greenapi_client *client = make_client(&error);
    greenapi_queue *queue = NULL;
    greenapi_queue_new(&queue);
    if (warm)
        client_call(client, "after");
    fail_from_here();
    for (uint64_t tag = 0; tag < 4; tag++)
        greenapi_queue_submit(queue, client, next_id++, tag);
    greenapi_queue_take(queue, results, 1, 1000);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    memory_is_back();
    client = make_client(&error);
    client_call(client, "after");
    greenapi_client_free(client);
}

/* Calls in a forked child whose parent had calls under way. */
static void child(void)
{
    greenapi_result error;
    greenapi_client *client = make_client(&error);
    if (warm)
        client_call(client, "after");
    pid_t pid = fork();
    if (pid != 0) {
        int status;
        guest_check(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
        if (WIFSIGNALED(status))
            raise(WTERMSIG(status));
        exit(WEXITSTATUS(status));
    }
    bool before = warm;
    warm = false;
    client_calls(before ? client : NULL);
}

/* Calls on a thread that has not called the library before and that ends while memory is short. */
static void *call_on_thread(void *client)
{
    client_call(client, NULL);
    return NULL;
}

static void thread(void)
{
    greenapi_result error;
    greenapi_client *client = make_client(&error);
    if (warm)
        client_call(client, "after");
    fail_from_here();
    pthread_t thread;
    int problem = pthread_create(&thread, NULL, call_on_thread, client);
    if (problem == 0)
        pthread_join(thread, NULL);
    memory_is_back();
    guest_check(problem == 0 || number > 0, "pthread_create: %s", strerror(problem));
    client_call(client, "after");
    greenapi_client_free(client);
}

/* Invalid arguments must be refused with the right status while memory is short. */
static void refused(void)
{
    greenapi_result result;
    greenapi_client *client = NULL;
    greenapi_options options = read_options();
    fail_from_here();
    int status = greenapi_delete_instance("ftp://nowhere", guest_token(), 1, NULL);
    guest_check(status == GREENAPI_STATUS_INVALID_ARGUMENT || status == 24, "status %d", status);
    options.proxy = "what:is://this";
    status = greenapi_client_new(guest_url(), guest_token(), &options, &client, &result);
    guest_check(status == GREENAPI_STATUS_INVALID_ARGUMENT || status == 24, "status %d", status);
    look_at(&result);
    options = read_options();
    options.ca_file = "/nowhere/at all.pem";
    status = greenapi_client_new(guest_url(), guest_token(), &options, &client, &result);
    guest_check(status == GREENAPI_STATUS_INVALID_ARGUMENT || status == 24, "status %d", status);
    look_at(&result);
    memory_is_back();
    int64_t id = next_id++;
    print("after", id, greenapi_delete_instance(guest_url(), guest_token(), id, NULL), 0);
}

/* Reads the account's list, which must be complete or end with an error. */
static int read_list(greenapi_client *client, uint32_t flags, size_t *count)
{
    static greenapi_instance instances[COUNT];
    greenapi_result result = {0};
    greenapi_list *list = NULL;
    greenapi_status status = greenapi_client_list_instances(client, flags, &list, &result);
    guest_check((status == GREENAPI_STATUS_OK) == (list != NULL),
                "the status and the list disagree");
    *count = 0;
    if (list == NULL)
        return status;
    while (!greenapi_list_ended(list, &result))
        *count += greenapi_list_take(list, instances, COUNT, -1);
    look_at(&result);
    greenapi_list_free(list);
    return result.status;
}

static void list_of(uint32_t flags)
{
    greenapi_result error;
    size_t whole = 0, count = 0;
    greenapi_client *client = make_client(&error);
    if (warm)
        client_call(client, "after");
    guest_check(read_list(client, flags, &whole) == GREENAPI_STATUS_OK, "no list");
    fail_from_here();
    int status = read_list(client, flags, &count);
    memory_is_back();
    guest_check(status == GREENAPI_STATUS_OUT_OF_RESOURCES || count == whole,
                "status %d with %zu of %zu instances", status, count, whole);
    guest_check(read_list(client, flags, &count) == GREENAPI_STATUS_OK && count == whole,
                "no list once there is memory again");
    client_call(client, "after");
    greenapi_client_free(client);
}

static void list(void)
{
    list_of(0);
}

static void states(void)
{
    list_of(GREENAPI_LIST_STATES);
}

/* Looks up a host name that does not exist. The resolver was used before, because glibc 2.36
 * crashes if it finds no memory while it reads nsswitch.conf for the first time. */
static void unknown(void)
{
    struct addrinfo *found = NULL;
    guest_check(getaddrinfo("greenapi.invalid", NULL, NULL, &found) != 0, "it is known");
    greenapi_result error;
    greenapi_client *client = make_client(&error);
    if (warm)
        client_call(client, "after");
    fail_from_here();
    client_call(client, NULL);
    memory_is_back();
    client_call(client, "after");
    greenapi_client_free(client);
}

static const struct {
    const char *name;
    void (*run)(void);
} SHAPES[] = {
    {"one_call", one_call}, {"client", client}, {"bulk", bulk},     {"queue", queue},
    {"freed", freed},       {"child", child},   {"thread", thread}, {"refused", refused},
    {"unknown", unknown},   {"list", list},     {"states", states},
};

int main(int argc, char **argv)
{
    if (argc != 6) {
        dprintf(STDERR_FILENO, "torture SHAPE cold|warm N alone|all FIRST_ID\n");
        return GUEST_MISUSED;
    }
    warm = strcmp(argv[2], "warm") == 0;
    number = atol(argv[3]);
    all = strcmp(argv[4], "all") == 0;
    next_id = atoll(argv[5]);
    *(void **)&begin = shortage_function("shortage_begin");
    *(void **)&end = shortage_function("shortage_end");
    alarm(WHOLE_TIME_LIMIT);
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        if (strcmp(SHAPES[i].name, argv[1]) == 0) {
            SHAPES[i].run();
            return 0;
        }
    guest_check(false, "unknown shape %s", argv[1]);
}
