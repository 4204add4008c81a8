/*
 * greenapi from C: warm, warm-one-call (greenapi_delete_instance), bulk (the queue), bulk-array
 * (greenapi_client_delete_instances), truth, truth-one-call. As greenapi.h shows it: all threads
 * share a client with default options (only max_in_flight is CONCURRENCY), and the status alone
 * gives the result. BENCH_JOURNAL names a journal; "open" only opens the journal.
 */
#include "measure.h"

#include <greenapi.h>

static greenapi_client *client;

static void check(greenapi_status status, const char *what)
{
    if (status != GREENAPI_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", what, greenapi_status_message(status));
        exit(1);
    }
}

static void open_client(const struct plan *plan)
{
    greenapi_options options;
    greenapi_result error;
    greenapi_options_init(&options, sizeof options);
    options.ca_file = getenv("SSL_CERT_FILE");
    options.max_in_flight = (uint32_t)plan->concurrency;
    options.journal = getenv("BENCH_JOURNAL");
    check(greenapi_client_new(plan->url, plan->token, &options, &client, &error), error.message);
}

static void *shared_client(const struct plan *plan)
{
    (void)plan;
    return client;
}

static void *the_plan(const struct plan *plan)
{
    return (void *)plan;
}

static void nothing_to_close(void *own)
{
    (void)own;
}

static bool call_client(void *own, int64_t id)
{
    return greenapi_client_delete_instance(own, id, NULL) == GREENAPI_STATUS_OK;
}

static bool call_once(void *own, int64_t id)
{
    const struct plan *plan = own;
    return greenapi_delete_instance(plan->url, plan->token, id, NULL) == GREENAPI_STATUS_OK;
}

/* Submits all deletions at once; the client keeps max_in_flight of them in flight. */
static void bulk_queue(const struct plan *plan)
{
    greenapi_queue *queue;
    check(greenapi_queue_new(&queue), "greenapi_queue_new");
    size_t failed = 0, taken;
    struct sample before = sample();
    for (size_t i = 0; i < plan->calls; i++)
        check(greenapi_queue_submit(queue, client, plan->first_id + (int64_t)i, i),
              "greenapi_queue_submit");
    greenapi_result results[64];
    for (size_t done = 0; done < plan->calls; done += taken) {
        taken = greenapi_queue_take(queue, results, 64, -1);
        for (size_t i = 0; i < taken; i++)
            failed += results[i].status != GREENAPI_STATUS_OK;
    }
    print_figures(plan->calls, failed, before, sample(), 0);
    greenapi_queue_free(queue);
}

static void bulk_array(const struct plan *plan)
{
    int64_t *ids = calloc(plan->calls, sizeof *ids);
    greenapi_result *results = calloc(plan->calls, sizeof *results);
    if (ids == NULL || results == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    for (size_t i = 0; i < plan->calls; i++)
        ids[i] = plan->first_id + (int64_t)i;
    size_t failed = 0;
    struct sample before = sample();
    greenapi_client_delete_instances(client, ids, plan->calls, results, NULL, NULL);
    struct sample after = sample();
    for (size_t i = 0; i < plan->calls; i++)
        failed += results[i].status != GREENAPI_STATUS_OK;
    print_figures(plan->calls, failed, before, after, 0);
    free(results);
    free(ids);
}

static const char *word(greenapi_status status)
{
    static const char *const words[] = {"deleted", "failed", "unknown"};
    return words[greenapi_status_effect(status)];
}

static void truth(const struct plan *plan)
{
    for (size_t i = 0; i < plan->calls; i++) {
        int64_t id = plan->first_id + (int64_t)i;
        greenapi_result result;
        greenapi_client_delete_instance(client, id, &result);
        print_word(id, word(result.status), word(result.status), result.message);
    }
}

static void truth_one_call(const struct plan *plan)
{
    for (size_t i = 0; i < plan->calls; i++) {
        int64_t id = plan->first_id + (int64_t)i;
        greenapi_status status = greenapi_delete_instance(plan->url, plan->token, id, NULL);
        print_word(id, word(status), word(status), greenapi_status_message(status));
    }
}

int main(int argc, char **argv)
{
    struct plan plan = plan_of(argc, argv);
    if (strcmp(plan.way, "warm-one-call") == 0) {
        measure_warm(plan, the_plan, nothing_to_close, call_once);
        return 0;
    }
    if (strcmp(plan.way, "truth-one-call") == 0) {
        truth_one_call(&plan);
        return 0;
    }
    struct sample before = sample();
    open_client(&plan);
    if (strcmp(plan.way, "open") == 0) {
        print_figures(plan.calls, 0, before, sample(), 0);
    } else if (strcmp(plan.way, "warm") == 0) {
        measure_warm(plan, shared_client, nothing_to_close, call_client);
    } else if (strcmp(plan.way, "bulk") == 0) {
        bulk_queue(&plan);
    } else if (strcmp(plan.way, "bulk-array") == 0) {
        bulk_array(&plan);
    } else if (strcmp(plan.way, "truth") == 0) {
        truth(&plan);
    } else {
        fprintf(stderr, "no way \"%s\" in this program\n", plan.way);
        return 2;
    }
    greenapi_client_free(client);
}
