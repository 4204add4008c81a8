/*
 * The program that the tests of the journal kill. It reads ids from standard input, one per line,
 * deletes the instances with a journal, and prints one line for each result: id, status, code,
 * attempts and message, separated by tabs. A line is written before the next result is taken.
 *
 *     worker blocking|bulk|queue JOURNAL
 *
 * Environment: GREENAPI_URL, GREENAPI_TOKEN; WORKER_TIMEOUT_MS, WORKER_RETRIES, WORKER_IN_FLIGHT,
 * WORKER_SESSION: options of the client; WORKER_STOP: cancels the rest after the first result;
 * WORKER_FILE_LIMIT: the size limit of files in bytes;
 * WORKER_TMPFS: a directory on which a file system of WORKER_TMPFS_KIB KiB is mounted, visible to
 * this process only.
 */
#include <greenapi.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

enum { FAILED = 1, MISUSED = 2, REFUSED = 3, CANNOT_TELL = 77 };

static void say(const greenapi_result *results, size_t count)
{
    static char text[256 * 320];
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += (size_t)snprintf(
            text + length, sizeof text - length, "%" PRId64 "\t%d\t%d\t%u\t%s\n", results[i].id,
            (int)results[i].status, (int)results[i].code, results[i].attempts, results[i].message);
    for (size_t written = 0; written < length;) {
        ssize_t more = write(STDOUT_FILENO, text + written, length - written);
        if (more <= 0)
            _exit(FAILED);
        written += (size_t)more;
    }
}

static bool on_progress(size_t done, size_t total, const greenapi_result *last, void *user_data)
{
    (void)done, (void)total, (void)user_data;
    say(last, 1);
    return getenv("WORKER_STOP") == NULL;
}

static uint32_t number(const char *name, uint32_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : (uint32_t)strtoul(text, NULL, 10);
}

static void limit_space(void)
{
    const char *folder = getenv("WORKER_TMPFS");
    if (folder != NULL) {
        char data[64];
        snprintf(data, sizeof data, "size=%uk", number("WORKER_TMPFS_KIB", 64));
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("tmpfs", folder, "tmpfs", 0, data) != 0) {
            perror("this user may not mount a file system");
            exit(CANNOT_TELL);
        }
    }
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = number("WORKER_FILE_LIMIT", 0);
    if (limit.rlim_cur != 0)
        setrlimit(RLIMIT_FSIZE, &limit);
}

int main(int argc, char **argv)
{
    const char *url = getenv("GREENAPI_URL"), *token = getenv("GREENAPI_TOKEN");
    if (argc != 3 || url == NULL || token == NULL)
        return MISUSED;
    size_t count = 0, room = 1 << 16;
    int64_t *ids = malloc(room * sizeof *ids);
    while (ids != NULL && scanf("%" SCNd64, &ids[count]) == 1)
        if (++count == room)
            ids = realloc(ids, (room *= 2) * sizeof *ids);
    if (ids == NULL)
        return FAILED;
    limit_space();

    greenapi_options options;
    greenapi_options_init(&options, sizeof options);
    options.journal = argv[2];
    options.timeout_ms = number("WORKER_TIMEOUT_MS", options.timeout_ms);
    options.max_retries = number("WORKER_RETRIES", options.max_retries);
    options.max_in_flight = number("WORKER_IN_FLIGHT", options.max_in_flight);
    options.session = number("WORKER_SESSION", options.session);
    greenapi_client *client;
    greenapi_result result;
    if (greenapi_client_new(url, token, &options, &client, &result) != GREENAPI_STATUS_OK) {
        fprintf(stderr, "%d %s\n", (int)result.status, result.message);
        return REFUSED;
    }

    if (strcmp(argv[1], "blocking") == 0) {
        for (size_t i = 0; i < count; i++) {
            greenapi_client_delete_instance(client, ids[i], &result);
            say(&result, 1);
        }
    } else if (strcmp(argv[1], "bulk") == 0) {
        greenapi_client_delete_instances(client, ids, count, NULL, on_progress, NULL);
    } else {
        greenapi_queue *queue;
        if (greenapi_queue_new(&queue) != GREENAPI_STATUS_OK)
            return FAILED;
        for (size_t i = 0; i < count; i++)
            if (greenapi_queue_submit(queue, client, ids[i], i) != GREENAPI_STATUS_OK)
                return FAILED;
        static greenapi_result results[256];
        size_t taken;
        while ((taken = greenapi_queue_take(queue, results, 256, -1)) > 0) {
            say(results, taken);
            for (size_t i = 0; i < count && getenv("WORKER_STOP") != NULL; i++)
                greenapi_queue_cancel(queue, i);
        }
        greenapi_queue_free(queue);
    }
    greenapi_client_free(client);
    free(ids);
    return 0;
}
