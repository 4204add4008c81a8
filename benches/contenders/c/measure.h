/*
 * Shared by the measured C programs: arguments, clocks, and the output of results.
 *
 *   PROGRAM WAY URL TOKEN FIRST_ID CALLS CONCURRENCY
 *
 * Deletes CALLS instances from FIRST_ID on, CONCURRENCY at a time. The way "truth" prints a line
 * for each instance; every other way prints one line of JSON with the time, CPU time and memory of
 * the calls.
 */
#ifndef MEASURE_H
#define MEASURE_H

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct plan {
    const char *way, *url, *token;
    int64_t first_id;
    size_t calls, concurrency;
};

struct sample {
    double seconds, cpu;
};

static inline struct plan plan_of(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: %s WAY URL TOKEN FIRST_ID CALLS CONCURRENCY\n", argv[0]);
        exit(2);
    }
    return (struct plan){argv[1],
                         argv[2],
                         argv[3],
                         strtoll(argv[4], NULL, 10),
                         strtoul(argv[5], NULL, 10),
                         strtoul(argv[6], NULL, 10)};
}

static inline double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The time, and the CPU time of the whole process, in seconds. */
static inline struct sample sample(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct sample){now(),
                           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6};
}

/* A number in /proc/self/status, such as "VmHWM" in KiB. ru_maxrss is not suitable, because it
 * includes the peak of the process that started this one. */
static inline long status_of_self(const char *name)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    size_t length = strlen(name);
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            fclose(file);
            return strtol(line + length + 1, NULL, 10);
        }
    fprintf(stderr, "/proc/self/status has no %s\n", name);
    exit(1);
}

static inline void print_figures(size_t calls, size_t failed, struct sample before,
                                 struct sample after, double median)
{
    printf("{\"calls\":%zu,\"failed\":%zu,\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"median_us\":%.3f,"
           "\"peak_rss_kib\":%ld}\n",
           calls, failed, after.seconds - before.seconds, after.cpu - before.cpu, median * 1e6,
           status_of_self("VmHWM"));
}

/* Prints one line of the way "truth": the library's report, the report of a program that reads the
 * API's flag in the body itself, and the reason. */
static inline void print_word(int64_t id, const char *word, const char *word_by_body,
                              const char *reason)
{
    printf("%" PRId64 "\t%s\t%s\t", id, word, word_by_body);
    for (; *reason != '\0'; reason++)
        putchar(*reason == '\t' || *reason == '\n' ? ' ' : *reason);
    putchar('\n');
}

/* Makes one call; `own` is the value that open_thread returned for the thread. */
typedef bool (*call_fn)(void *own, int64_t id);

struct warm {
    struct plan plan;
    void *(*open_thread)(const struct plan *);
    void (*close_thread)(void *);
    call_fn call;
    pthread_barrier_t ready, go;
    double *latencies;
};

struct warm_thread {
    struct warm *warm;
    size_t number, failed;
    pthread_t thread;
};

static inline void *warm_thread(void *argument)
{
    struct warm_thread *self = argument;
    struct warm *warm = self->warm;
    const struct plan *plan = &warm->plan;
    size_t each = plan->calls / plan->concurrency;
    void *own = warm->open_thread(plan);
    int64_t id = plan->first_id + (int64_t)(self->number * (each + 1));
    double *latency = warm->latencies + self->number * each;

    self->failed += !warm->call(own, id++);
    pthread_barrier_wait(&warm->ready);
    pthread_barrier_wait(&warm->go);
    for (size_t i = 0; i < each; i++) {
        double start = now();
        self->failed += !warm->call(own, id++);
        latency[i] = now() - start;
    }
    warm->close_thread(own);
    return NULL;
}

static inline int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The way "warm": every thread prepares and makes one call that is not measured; then all threads
 * call at once. */
static inline void measure_warm(struct plan plan, void *(*open_thread)(const struct plan *),
                                void (*close_thread)(void *), call_fn call)
{
    size_t each = plan.calls / plan.concurrency, calls = each * plan.concurrency, failed = 0;
    struct warm warm = {
        .plan = plan, .open_thread = open_thread, .close_thread = close_thread, .call = call};
    struct warm_thread *threads = calloc(plan.concurrency, sizeof *threads);
    warm.latencies = calloc(calls, sizeof *warm.latencies);
    if (threads == NULL || warm.latencies == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    pthread_barrier_init(&warm.ready, NULL, (unsigned)plan.concurrency + 1);
    pthread_barrier_init(&warm.go, NULL, (unsigned)plan.concurrency + 1);
    for (size_t i = 0; i < plan.concurrency; i++) {
        threads[i] = (struct warm_thread){.warm = &warm, .number = i};
        if (pthread_create(&threads[i].thread, NULL, warm_thread, &threads[i]) != 0) {
            fprintf(stderr, "cannot start a thread\n");
            exit(1);
        }
    }
    pthread_barrier_wait(&warm.ready);
    struct sample before = sample();
    pthread_barrier_wait(&warm.go);
    for (size_t i = 0; i < plan.concurrency; i++) {
        pthread_join(threads[i].thread, NULL);
        failed += threads[i].failed;
    }
    struct sample after = sample();
    qsort(warm.latencies, calls, sizeof *warm.latencies, by_size);
    print_figures(calls, failed, before, after, warm.latencies[calls / 2]);
}

#endif
