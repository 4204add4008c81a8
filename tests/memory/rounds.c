/*
 * Lets the same allocations fail over and over in one process, and checks that this does not leave
 * more and more memory behind:
 *
 *   LD_PRELOAD=…/shortage.so rounds client|thread|queue|bulk ROUNDS
 *
 * Compares the live bytes after ROUNDS and after ten times as many.
 */
#include "memory.h"

#include <limits.h>

enum {
    COUNT = 4,             /* calls of a queue or bulk */
    POINTS = 40,           /* at most: the allocations that fail in a round */
    CALLS_TO_LOOK_AT = 50, /* between which the live bytes are read */
    /* The buffers of a connection count only if the system has given them, not the reserve. */
    TOLERANCE = 32 << 10,
};

static void (*begin)(long, bool);
static long (*end)(void);
static long (*limit_live)(long);

static greenapi_client *client;
static greenapi_queue *queue;

static void expect(int status, bool disturbed)
{
    guest_check(status == GREENAPI_STATUS_NOT_FOUND || (disturbed && status != GREENAPI_STATUS_OK &&
                                                        status != GREENAPI_STATUS_INTERNAL),
                "%s memory: status %d", disturbed ? "without" : "with", status);
}

static void by_client(bool disturbed)
{
    greenapi_result result;
    greenapi_client_delete_instance(client, GUEST_ID, &result);
    expect(result.status, disturbed);
}

static void *call_on_thread(void *disturbed)
{
    by_client(*(bool *)disturbed);
    return NULL;
}

/* On a thread of its own, which leaves its thread-locals behind. */
static void by_thread(bool disturbed)
{
    pthread_t thread;
    int problem = pthread_create(&thread, NULL, call_on_thread, &disturbed);
    guest_check(problem == 0 || disturbed, "pthread_create: %s", strerror(problem));
    if (problem == 0)
        pthread_join(thread, NULL);
}

static void by_queue(bool disturbed)
{
    greenapi_result results[COUNT];
    size_t under_way = 0;
    for (int i = 0; i < COUNT; i++) {
        int status = greenapi_queue_submit(queue, client, GUEST_ID, 0);
        if (status == GREENAPI_STATUS_OK)
            under_way++;
        else
            expect(status, disturbed);
    }
    while (under_way > 0) {
        size_t got = greenapi_queue_take(queue, results, COUNT, -1);
        for (size_t i = 0; i < got; i++)
            expect(results[i].status, disturbed);
        under_way -= got;
    }
}

static void by_bulk(bool disturbed)
{
    greenapi_result results[COUNT];
    int64_t ids[COUNT];
    for (int i = 0; i < COUNT; i++)
        ids[i] = GUEST_ID;
    greenapi_client_delete_instances(client, ids, COUNT, results, NULL, NULL);
    for (int i = 0; i < COUNT; i++)
        expect(results[i].status, disturbed);
}

static const struct {
    const char *name;
    void (*call)(bool disturbed);
} SHAPES[] = {{"client", by_client}, {"thread", by_thread}, {"queue", by_queue}, {"bulk", by_bulk}};

static void (*call)(bool disturbed);

static void one_round(long allocations)
{
    long step = (allocations + POINTS - 1) / POINTS;
    for (int all = 0; all < 2; all++)
        for (long number = allocations; number > 0; number -= step) {
            begin(number, all);
            call(true);
            end();
            call(false);
        }
}

/* The live bytes when as little as possible is under way. */
static long live_now(void)
{
    long least = LONG_MAX;
    for (int i = 0; i < CALLS_TO_LOOK_AT; i++) {
        call(false);
        long live = limit_live(0);
        least = live < least ? live : least;
    }
    return least;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 3 && i < sizeof SHAPES / sizeof *SHAPES; i++)
        if (strcmp(SHAPES[i].name, argv[1]) == 0)
            call = SHAPES[i].call;
    if (call == NULL) {
        dprintf(STDERR_FILENO, "rounds client|thread|queue|bulk ROUNDS\n");
        return GUEST_MISUSED;
    }
    int rounds = atoi(argv[2]);
    alarm(60 + (unsigned)rounds * 10);
    *(void **)&begin = shortage_function("shortage_begin");
    *(void **)&end = shortage_function("shortage_end");
    *(void **)&limit_live = shortage_function("shortage_limit");
    client = guest_client();
    queue = guest_queue();
    live_now();
    begin(0, false);
    call(false);
    long allocations = end();
    guest_check(allocations > 10, "only %ld allocations were counted", allocations);

    for (int i = 0; i < rounds; i++)
        one_round(allocations);
    long early = live_now();
    for (int i = rounds; i < 10 * rounds; i++)
        one_round(allocations);
    long late = live_now();
    guest_check(late < early + TOLERANCE, "%ld bytes were live after %d rounds, %ld after %d",
                early, rounds, late, 10 * rounds);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return guest_passed("%ld bytes, later %ld", early, late);
}
