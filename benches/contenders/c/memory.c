/*
 * Measures the memory of a process with many submissions in one queue of one client.
 *
 *   memory in-flight URL TOKEN FIRST_ID COUNT   COUNT requests at once, to a server that answers
 *                                               when it holds all of them
 *   memory queued    URL TOKEN FIRST_ID COUNT   COUNT submissions behind 64 requests that are
 *                                               never answered
 */
#include <dirent.h>

#include "measure.h"

#include <greenapi.h>

static void check(greenapi_status status, const char *what)
{
    if (status != GREENAPI_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", what, greenapi_status_message(status));
        exit(1);
    }
}

static greenapi_client *new_client(const char *url, const char *token, uint32_t max_in_flight,
                                   uint32_t max_retries)
{
    greenapi_options options;
    greenapi_result error;
    greenapi_client *client;
    greenapi_options_init(&options, sizeof options);
    options.ca_file = getenv("SSL_CERT_FILE");
    options.max_in_flight = max_in_flight;
    options.max_retries = max_retries;
    options.timeout_ms = options.connect_timeout_ms = 120000;
    check(greenapi_client_new(url, token, &options, &client, &error), error.message);
    return client;
}

static int library_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;
    while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
        char path[64], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", entry->d_name);
        FILE *comm = fopen(path, "r");
        if (comm == NULL)
            continue;
        count += fgets(name, sizeof name, comm) != NULL && strncmp(name, "greenapi-", 9) == 0;
        fclose(comm);
    }
    closedir(tasks);
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: %s in-flight|queued URL TOKEN FIRST_ID COUNT\n", argv[0]);
        return 2;
    }
    bool queued = strcmp(argv[1], "queued") == 0;
    int64_t first_id = strtoll(argv[4], NULL, 10);
    size_t count = strtoul(argv[5], NULL, 10), failed = 0;
    greenapi_client *client = new_client(argv[2], argv[3], queued ? 64 : (uint32_t)count, 3);
    greenapi_queue *queue;
    greenapi_result results[64];
    check(greenapi_queue_new(&queue), "greenapi_queue_new");

    long before = status_of_self("VmRSS");
    for (size_t i = 0; i < count; i++)
        check(greenapi_queue_submit(queue, client, first_id + (int64_t)i, i),
              "greenapi_queue_submit");

    if (queued) {
        /* This connection is refused at once, so its result shows that the library has processed
         * the submissions before it. */
        greenapi_client *refused = new_client("http://127.0.0.1:1", argv[3], 1, 0);
        check(greenapi_queue_submit(queue, refused, first_id, count), "greenapi_queue_submit");
        if (greenapi_queue_take(queue, results, 1, -1) != 1 || results[0].tag != count) {
            fprintf(stderr, "an answer came from a server that should hold everything\n");
            return 1;
        }
        greenapi_client_free(refused);
    }
    int threads = 0;
    for (size_t done = 0, taken; !queued && done < count; done += taken) {
        taken = greenapi_queue_take(queue, results, 64, -1);
        if (done == 0)
            threads = library_threads();
        for (size_t i = 0; i < taken; i++)
            if (results[i].status != GREENAPI_STATUS_OK && failed++ == 0)
                fprintf(stderr, "%s\n", results[i].message);
    }
    printf("{\"calls\":%zu,\"failed\":%zu,\"threads\":%d,\"before_kib\":%ld,\"after_kib\":%ld,"
           "\"peak_rss_kib\":%ld}\n",
           count, failed, queued ? library_threads() : threads, before, status_of_self("VmRSS"),
           status_of_self("VmHWM"));
    greenapi_queue_free(queue);
    greenapi_client_free(client);
}
