/*
 * Keeps 64 calls under way, half of them over HTTP/2, while a limit of the process's memory moves
 * down and up:
 *
 *   load live|space|data SECONDS FIRST_ID
 *
 * live: the allocated bytes are limited (LD_PRELOAD=…/shortage.so), as a system without memory
 * would; space: RLIMIT_AS; data: RLIMIT_DATA. Prints the results as lines `ID STATUS`, once the
 * limit is gone. tests/memory.rs compares them with the stand-in's ledger.
 */
#include "memory.h"

#include <malloc.h>

enum {
    BLOCKING = 32,
    BY_QUEUE = 16,
    BULKS = 2,
    BY_BULK = 8, /* each */
    LIST = 64,   /* the ids of one bulk */
    CALLERS = BLOCKING + 1 + BULKS,
    MOST_IDS = 4 << 20,
    NOT_CALLED = 0xff,
};

static int64_t first_id;
static _Atomic int64_t next_id;
/* By id. Of fixed size, because there is no memory for more while it is short. */
static uint8_t statuses[MOST_IDS];

static greenapi_client *clients[2];
static greenapi_client *bulk_clients[BULKS];
static greenapi_queue *queue;

static atomic_bool over;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t memory_is_back = PTHREAD_COND_INITIALIZER;
static pthread_cond_t something_happened = PTHREAD_COND_INITIALIZER;
/* All under the lock. */
static bool is_short;
static unsigned shortages;
static unsigned waiting; /* callers that were refused in this shortage */
static long results;

/* ---- the callers ---- */

static int64_t new_id(void)
{
    int64_t id = next_id++;
    guest_check(id < first_id + MOST_IDS, "no ids are left");
    return id;
}

/* What a caller knows of the memory when it begins a call. */
struct moment {
    bool was_short;
    unsigned shortage;
};

static struct moment now(void)
{
    pthread_mutex_lock(&lock);
    struct moment moment = {is_short, shortages};
    pthread_mutex_unlock(&lock);
    return moment;
}

/* Records a result. Returns whether the call was refused because memory is short. */
static bool record(int64_t id, int status, struct moment begun)
{
    statuses[id - first_id] = (uint8_t)status;
    bool refused = status == GREENAPI_STATUS_OUT_OF_RESOURCES;
    pthread_mutex_lock(&lock);
    results++;
    bool was_never_short = !begun.was_short && !is_short && begun.shortage == shortages;
    pthread_cond_signal(&something_happened);
    pthread_mutex_unlock(&lock);
    guest_check(!(refused && was_never_short), "a call was refused although memory is back");
    return refused;
}

static bool record_result(const greenapi_result *result, struct moment begun)
{
    look_at(result);
    return record(result->id, result->status, begun);
}

static void wait_for_memory(void)
{
    pthread_mutex_lock(&lock);
    unsigned shortage = shortages;
    if (is_short) {
        waiting++;
        pthread_cond_signal(&something_happened);
    }
    while (is_short && shortages == shortage)
        pthread_cond_wait(&memory_is_back, &lock);
    pthread_mutex_unlock(&lock);
}

static bool call(greenapi_client *client)
{
    greenapi_result result;
    struct moment begun = now();
    greenapi_client_delete_instance(client, new_id(), &result);
    return record_result(&result, begun);
}

static void *blocking(void *client)
{
    while (!over)
        if (call(client))
            wait_for_memory();
    return NULL;
}

/* Submits `count` calls, of every client in turn, and takes their results. With `go_on`, a new call
 * is submitted for each that ended, until memory is short. */
static void queue_calls(size_t count, bool go_on)
{
    greenapi_result taken[BY_QUEUE];
    struct moment begun[BY_QUEUE];
    size_t under_way = 0;
    bool tags[BY_QUEUE] = {false};
    do {
        for (size_t tag = 0; tag < count; tag++) {
            if (tags[tag])
                continue;
            int64_t id = new_id();
            begun[tag] = now();
            int status = greenapi_queue_submit(queue, clients[tag % 2], id, tag);
            if (status == GREENAPI_STATUS_OK) {
                tags[tag] = true;
                under_way++;
            } else if (record(id, status, begun[tag])) {
                go_on = false;
                break;
            }
        }
        size_t got = under_way == 0 ? 0 : greenapi_queue_take(queue, taken, BY_QUEUE, -1);
        for (size_t i = 0; i < got; i++) {
            tags[taken[i].tag] = false;
            if (record_result(&taken[i], begun[taken[i].tag]))
                go_on = false;
        }
        under_way -= got;
        go_on = go_on && !over;
        if (!go_on)
            count = 0;
    } while (under_way > 0 || go_on);
}

static void *by_queue(void *unused)
{
    while (!over) {
        queue_calls(BY_QUEUE, true);
        wait_for_memory();
    }
    return unused;
}

static bool bulk_call(greenapi_client *client)
{
    int64_t ids[LIST];
    greenapi_result got[LIST];
    bool refused = false;
    for (size_t i = 0; i < LIST; i++)
        ids[i] = new_id();
    struct moment begun = now();
    greenapi_client_delete_instances(client, ids, LIST, got, NULL, NULL);
    for (size_t i = 0; i < LIST; i++) {
        guest_check(got[i].id == ids[i], "a result has another id");
        refused |= record_result(&got[i], begun);
    }
    return refused;
}

static void *by_bulk(void *client)
{
    while (!over)
        if (bulk_call(client))
            wait_for_memory();
    return NULL;
}

/* Checks that every way of calling works, with ids from `first` on. Returns the next id. */
static int64_t expect_all_to_work(int64_t first)
{
    next_id = first;
    for (size_t i = 0; i < 2; i++)
        call(clients[i]);
    queue_calls(2, false);
    for (size_t i = 0; i < BULKS; i++)
        bulk_call(bulk_clients[i]);
    for (int64_t id = first; id < next_id; id++)
        guest_check(statuses[id - first_id] == GREENAPI_STATUS_OK, "with memory: status %d",
                    statuses[id - first_id]);
    return next_id;
}

/* ---- the limit ---- */

static long (*limit_live)(long);
static int resource;

static void set_limit(rlim_t bytes)
{
    struct rlimit limit;
    getrlimit(resource, &limit);
    limit.rlim_cur = bytes;
    guest_check(setrlimit(resource, &limit) == 0, "setrlimit: %s", strerror(errno));
}

/* How much of the limited resource the process has. Without stdio, which allocates. */
static rlim_t size_now(void)
{
    char text[256];
    long size, data;
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    guest_check(length > 0, "/proc/self/statm: %s", strerror(errno));
    text[length] = '\0';
    guest_check(sscanf(text, "%ld %*d %*d %*d %*d %ld", &size, &data) == 2, "statm: %s", text);
    return (rlim_t)(resource == RLIMIT_AS ? size : data) * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* What this program has allocated so that the library finds nothing free: linked blocks. */
static struct block {
    struct block *next;
} * taken;

/* Leaves the process almost no memory beyond what it has. Each further attempt leaves less. */
static void tighten(unsigned attempt)
{
    size_t room = (size_t)64 << 10 >> (attempt < 9 ? attempt : 9);
    if (limit_live != NULL) {
        limit_live(limit_live(0) + (long)room);
        return;
    }
    /* What the process has freed is still its own, below every limit, so it is taken too. */
    set_limit(size_now() + room);
    for (size_t size = 64 << 10; size >= room; size /= 2)
        for (struct block *block; (block = malloc(size)) != NULL;) {
            block->next = taken;
            taken = block;
        }
}

static void loosen(void)
{
    if (limit_live != NULL) {
        limit_live(0);
        return;
    }
    set_limit(RLIM_INFINITY);
    while (taken != NULL) {
        struct block *next = taken->next;
        free(taken);
        taken = next;
    }
}

/* Makes memory short until `wanted` callers have been refused. */
static void shortage(unsigned wanted)
{
    pthread_mutex_lock(&lock);
    is_short = true;
    shortages++;
    waiting = 0;
    for (unsigned attempt = 0; waiting < wanted; attempt++) {
        pthread_mutex_unlock(&lock);
        tighten(attempt);
        pthread_mutex_lock(&lock);
        /* Calls that end give memory back, so the limit has to follow. */
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        while (waiting < wanted &&
               pthread_cond_timedwait(&something_happened, &lock, &until) != ETIMEDOUT)
            continue;
    }
    pthread_mutex_unlock(&lock);
    loosen();
    pthread_mutex_lock(&lock);
    is_short = false;
    pthread_cond_broadcast(&memory_is_back);
    pthread_mutex_unlock(&lock);
}

/* Waits until this many calls have ended. */
static void plenty(long count)
{
    pthread_mutex_lock(&lock);
    count += results;
    while (results < count)
        pthread_cond_wait(&something_happened, &lock);
    pthread_mutex_unlock(&lock);
}

static greenapi_client *make_client(const char *url, uint32_t max_in_flight)
{
    greenapi_options options = guest_options();
    options.max_in_flight = max_in_flight;
    return guest_client_of(url, &options);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        dprintf(STDERR_FILENO, "load live|space|data SECONDS FIRST_ID\n");
        return GUEST_MISUSED;
    }
    int seconds = atoi(argv[2]);
    first_id = atoll(argv[3]);
    if (strcmp(argv[1], "live") == 0)
        *(void **)&limit_live = shortage_function("shortage_limit");
    resource = strcmp(argv[1], "space") == 0 ? RLIMIT_AS : RLIMIT_DATA;
    alarm((unsigned)seconds + 60);
    /* With one arena, the memory that one thread frees is there for all; each further arena would
     * also take 64 MiB of address space. */
    mallopt(M_ARENA_MAX, 1);
    memset(statuses, NOT_CALLED, sizeof statuses);

    const char *urls[] = {guest_url(), guest_env("GREENAPI_HTTPS_URL")};
    for (size_t i = 0; i < 2; i++) {
        clients[i] = make_client(urls[i], 64);
        bulk_clients[i] = make_client(urls[i], BY_BULK);
    }
    queue = guest_queue();
    /* The ids of the last calls are set aside, because the account may lack instances for all. */
    int64_t of_last_calls = expect_all_to_work(first_id);
    next_id = of_last_calls + (of_last_calls - first_id);

    pthread_t callers[CALLERS];
    size_t count = 0;
    for (size_t i = 0; i < BLOCKING; i++)
        callers[count++] = guest_thread(blocking, clients[i % 2]);
    callers[count++] = guest_thread(by_queue, NULL);
    for (size_t i = 0; i < BULKS; i++)
        callers[count++] = guest_thread(by_bulk, bulk_clients[i]);

    int64_t end = guest_now_ms() + seconds * 1000;
    unsigned round = 0;
    for (; guest_now_ms() < end; round++) {
        plenty(64 * (1 + round % 8));
        shortage(1 + round * 7 % CALLERS);
    }
    over = true;
    for (size_t i = 0; i < count; i++)
        pthread_join(callers[i], NULL);
    int64_t end_of_ids = next_id;
    expect_all_to_work(of_last_calls);
    greenapi_queue_free(queue);
    for (size_t i = 0; i < 2; i++) {
        greenapi_client_free(clients[i]);
        greenapi_client_free(bulk_clients[i]);
    }

    printf("shortages %u\n", round);
    for (int64_t id = first_id; id < end_of_ids; id++)
        printf("%" PRId64 " %d\n", id, statuses[id - first_id]);
    return 0;
}
