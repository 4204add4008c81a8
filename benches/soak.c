/*
 * The program that benches/soak runs. For the given time it makes calls of every kind at full
 * speed, to the small fast server over plain HTTP and at the same time to the stand-in over TLS
 * with random faults. Once per second it reads its memory, descriptors and threads in /proc; after
 * a warm-up these must not grow.
 *
 *   soak SECONDS FAST_URL
 *
 * The environment is that of the programs of tests/guest.
 */
#include "../tests/guest/guest.h"

enum {
    SECONDS_AT_LEAST = 20,
    TENTHS = 10,
    ROWS = 20,
    IN_FLIGHT = 32,
    SHORT_LIVED = 4,
    KINDS = 5,
    TARGETS = 2,
    /* A few more threads or connections than in the warm-up may exist at the same time later. */
    SLACK = 8,
    GROWTH_PERCENT = 5,
    GROWTH_KIB = 1024,
    TIME_TO_END = 60,
};

struct target {
    const char *name, *url;
    bool (*expects)(greenapi_status);
    greenapi_options options;
};

struct worker {
    const struct target *target;
    const char *kind;
    void (*round)(struct worker *);
    pthread_t thread;
    atomic_ulong calls;
    unsigned seed;
    /* What a worker uses in all rounds; NULL if each round makes its own. */
    greenapi_client *client;
    greenapi_queue *queue;
};

struct sample {
    unsigned long calls;
    long memory;
    int descriptors, threads;
};

static atomic_bool stop;

/* ---- the allowed statuses ---- */

static bool deleted(greenapi_status status)
{
    return status == GREENAPI_STATUS_OK || status == GREENAPI_STATUS_CANCELLED ||
           status == GREENAPI_STATUS_CANCELLED_IN_FLIGHT;
}

/* The stand-in has no such instance, so it can be deleted any number of times. Faults are random,
 * and after a fault that may have hidden a deletion "not found" becomes GONE. */
static bool not_found_or_faulty(greenapi_status status)
{
    switch (status) {
    case GREENAPI_STATUS_GONE:
    case GREENAPI_STATUS_NOT_FOUND:
    case GREENAPI_STATUS_RATE_LIMITED:
    case GREENAPI_STATUS_CANCELLED:
    case GREENAPI_STATUS_CONNECTION_LOST:
    case GREENAPI_STATUS_SERVER_ERROR:
    case GREENAPI_STATUS_CANCELLED_IN_FLIGHT:
        return true;
    default:
        return false;
    }
}

static void count(struct worker *worker, greenapi_status status, const char *message)
{
    guest_check(worker->target->expects(status), "%s, %s: %s: %s", worker->target->name,
                worker->kind, greenapi_status_name(status), message);
    atomic_fetch_add_explicit(&worker->calls, 1, memory_order_relaxed);
}

/* ---- the kinds of calls ---- */

static void call_once(struct worker *worker)
{
    greenapi_status status =
        greenapi_delete_instance(worker->target->url, guest_token(), GUEST_ID, NULL);
    count(worker, status, greenapi_status_message(status));
}

static void call_client(struct worker *worker)
{
    greenapi_result result;
    greenapi_client_delete_instance(worker->client, GUEST_ID, &result);
    count(worker, result.status, result.message);
}

static void *call_and_end(void *argument)
{
    struct worker *worker = argument;
    call_client(worker);
    return NULL;
}

static void short_lived_threads(struct worker *worker)
{
    pthread_t threads[SHORT_LIVED];
    for (size_t i = 0; i < SHORT_LIVED; i++)
        threads[i] = guest_thread(call_and_end, worker);
    for (size_t i = 0; i < SHORT_LIVED; i++)
        pthread_join(threads[i], NULL);
}

static void submit(const struct worker *worker, greenapi_queue *queue, greenapi_client *client)
{
    for (uint64_t tag = 0; tag < IN_FLIGHT; tag++) {
        greenapi_status status = greenapi_queue_submit(queue, client, GUEST_ID, tag);
        guest_check(status == GREENAPI_STATUS_OK, "%s, %s: greenapi_queue_submit: %s",
                    worker->target->name, worker->kind, greenapi_status_name(status));
    }
}

/* Takes at least `wanted` results. Returns how many deletions are still under way. */
static size_t take(struct worker *worker, greenapi_queue *queue, size_t under_way, size_t wanted)
{
    size_t got = 0;
    while (got < wanted) {
        greenapi_result results[IN_FLIGHT];
        size_t taken = greenapi_queue_take(queue, results, IN_FLIGHT, -1);
        guest_check(taken > 0 && got + taken <= under_way,
                    "%s, %s: %zu results where %zu were under way", worker->target->name,
                    worker->kind, taken, under_way - got);
        for (size_t i = 0; i < taken; i++)
            count(worker, results[i].status, results[i].message);
        got += taken;
    }
    return under_way - got;
}

static void queue_with_cancel(struct worker *worker)
{
    submit(worker, worker->queue, worker->client);
    size_t under_way = take(worker, worker->queue, IN_FLIGHT, 1);
    greenapi_queue_cancel(worker->queue, (uint64_t)rand_r(&worker->seed) % IN_FLIGHT);
    take(worker, worker->queue, under_way, under_way);
}

/* In every second round all results are taken; in the others the queue is freed before. */
static void made_and_freed(struct worker *worker)
{
    greenapi_options options = worker->target->options;
    char user_agent[32];
    /* Each client has other options, to find data that the library keeps about freed clients. */
    snprintf(user_agent, sizeof user_agent, "soak/%d", rand_r(&worker->seed));
    options.user_agent = user_agent;
    greenapi_client *client = guest_client_of(worker->target->url, &options);
    greenapi_queue *queue = guest_queue();
    submit(worker, queue, client);
    greenapi_client_free(client);
    take(worker, queue, IN_FLIGHT, rand_r(&worker->seed) % 2 == 0 ? IN_FLIGHT : 1);
    greenapi_queue_free(queue);
}

static const struct {
    const char *name;
    void (*round)(struct worker *);
    bool client, queue;
} kinds[KINDS] = {
    {"one call", call_once, false, false},
    {"client", call_client, true, false},
    {"queue with cancel", queue_with_cancel, true, true},
    {"clients and queues made and freed", made_and_freed, false, false},
    {"short-lived threads", short_lived_threads, true, false},
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        worker->round(worker);
    return NULL;
}

static void start(struct worker *worker, const struct target *target, size_t kind)
{
    worker->target = target;
    worker->kind = kinds[kind].name;
    worker->round = kinds[kind].round;
    worker->seed = (unsigned)kind + 1;
    if (kinds[kind].client)
        worker->client = guest_client_of(target->url, &target->options);
    if (kinds[kind].queue)
        worker->queue = guest_queue();
    worker->thread = guest_thread(work, worker);
}

static void finish(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    greenapi_queue_free(worker->queue);
    greenapi_client_free(worker->client);
    printf("%10lu  %s, %s\n", atomic_load(&worker->calls), worker->target->name, worker->kind);
}

/* ---- memory, descriptors and threads ---- */

static struct sample sample(struct worker *workers)
{
    struct sample now = {
        .memory = guest_memory(),
        .descriptors = guest_descriptors(),
        .threads = guest_threads().all,
    };
    for (size_t i = 0; i < TARGETS * KINDS; i++)
        now.calls += atomic_load_explicit(&workers[i].calls, memory_order_relaxed);
    return now;
}

static void watch(struct worker *workers, struct sample *samples, size_t seconds)
{
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    puts("    second       calls  memory, KiB  descriptors  threads");
    for (size_t i = 0; i < seconds; i++) {
        next.tv_sec++;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) != 0)
            continue;
        samples[i] = sample(workers);
        if ((i + 1) * ROWS / seconds > i * ROWS / seconds)
            printf("%10zu  %10lu  %11ld  %11d  %7d\n", i + 1, samples[i].calls, samples[i].memory,
                   samples[i].descriptors, samples[i].threads);
    }
}

static int compare(const void *left, const void *right)
{
    long a = *(const long *)left, b = *(const long *)right;
    return (a > b) - (a < b);
}

static long median_memory(const struct sample *samples, size_t length)
{
    long *sorted = calloc(length, sizeof *sorted);
    guest_check(sorted != NULL, "out of memory");
    for (size_t i = 0; i < length; i++)
        sorted[i] = samples[i].memory;
    qsort(sorted, length, sizeof *sorted, compare);
    long median = sorted[length / 2];
    free(sorted);
    return median;
}

static struct sample most(const struct sample *samples, size_t length)
{
    struct sample most = {0};
    for (size_t i = 0; i < length; i++) {
        if (samples[i].descriptors > most.descriptors)
            most.descriptors = samples[i].descriptors;
        if (samples[i].threads > most.threads)
            most.threads = samples[i].threads;
    }
    return most;
}

static int judge(const struct sample *samples, size_t seconds)
{
    size_t tenth = seconds / TENTHS;
    const struct sample *last = samples + seconds - tenth;
    long early = median_memory(samples + tenth, tenth), late = median_memory(last, tenth);
    guest_check(late <= early + early * GROWTH_PERCENT / 100 + GROWTH_KIB,
                "memory grew from %ld to %ld KiB (medians of the second and the last tenth)", early,
                late);
    struct sample warm_up = most(samples, tenth), end = most(last, tenth);
    guest_check(end.descriptors <= warm_up.descriptors + SLACK,
                "%d descriptors were open in the last tenth, at most %d in the warm-up",
                end.descriptors, warm_up.descriptors);
    guest_check(end.threads <= warm_up.threads + SLACK,
                "%d threads ran in the last tenth, at most %d in the warm-up", end.threads,
                warm_up.threads);
    return guest_passed("flat over %zu s and %lu calls: memory %ld KiB, then %ld KiB; at most %d "
                        "descriptors, then %d; at most %d threads, then %d",
                        seconds, samples[seconds - 1].calls, early, late, warm_up.descriptors,
                        end.descriptors, warm_up.threads, end.threads);
}

int main(int argc, char **argv)
{
    size_t seconds = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
    if (seconds < SECONDS_AT_LEAST || seconds > 1000000) {
        fprintf(stderr, "usage: soak SECONDS FAST_URL, with %d seconds or more\n",
                SECONDS_AT_LEAST);
        return GUEST_MISUSED;
    }
    /* Line buffering, so that the samples before a failure are shown. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    guest_begin((unsigned)seconds + TIME_TO_END);
    guest_tell("POST", "/reset", "");
    guest_tell("POST", "/faults",
               "[{\"method\":\"delete\",\"chance\":0.002,\"fault\":{\"status\":502}},"
               "{\"method\":\"delete\",\"chance\":0.002,\"fault\":{\"status\":429}},"
               "{\"method\":\"delete\",\"chance\":0.001,"
               "\"fault\":{\"stage\":\"received\",\"then\":\"reset\"}},"
               "{\"method\":\"delete\",\"chance\":0.001,"
               "\"fault\":{\"stage\":\"half_body\",\"then\":\"reset\"}}]");

    const struct target targets[TARGETS] = {
        {"plain HTTP", argv[2], deleted, guest_options()},
        {"TLS with faults", guest_url(), not_found_or_faulty, guest_options()},
    };
    static struct worker workers[TARGETS * KINDS];
    struct sample *samples = calloc(seconds, sizeof *samples);
    guest_check(samples != NULL, "out of memory");
    /* Touch the memory of the samples now, so that storing samples does not count as growth. */
    memset(samples, 0xff, seconds * sizeof *samples);
    for (size_t i = 0; i < TARGETS * KINDS; i++)
        start(&workers[i], &targets[i / KINDS], i % KINDS);
    watch(workers, samples, seconds);
    atomic_store(&stop, true);
    for (size_t i = 0; i < TARGETS * KINDS; i++)
        finish(&workers[i]);
    int verdict = judge(samples, seconds);
    free(samples);
    return verdict;
}
