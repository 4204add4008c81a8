/*
 * Shared by the programs of this directory. Each program tests one aspect of a library that lives
 * in its host's process. It exits with 0 and one line about what was seen, with 1 and a sentence
 * about what was wrong, or with 77 if this system cannot run the test. README.md lists the programs
 * and the environment that they need.
 */
#ifndef GUEST_H
#define GUEST_H

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <greenapi.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* An id without an instance: the API answers "not found", however often it is asked. */
#define GUEST_ID INT64_C(9000000001)

enum { GUEST_FAILED = 1, GUEST_MISUSED = 2, GUEST_SKIPPED = 77 };

/* ---- reporting ---- */

static inline void guest_say(const char *what, const char *format, va_list arguments)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, arguments);
    /* One write, because several processes may print at once. */
    dprintf(STDERR_FILENO, "%s: %s%s\n", program_invocation_short_name, what, text);
}

/* Ends the process at once, also from a thread or a forked child, without waiting for calls under
 * way and without running the exit handlers that the parent registered. */
static inline void guest_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));
static inline void guest_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    guest_say("FAILED: ", format, arguments);
    va_end(arguments);
    _exit(GUEST_FAILED);
}

static inline void guest_skip(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));
static inline void guest_skip(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    guest_say("SKIPPED: ", format, arguments);
    va_end(arguments);
    _exit(GUEST_SKIPPED);
}

static inline void guest_check(bool holds, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static inline void guest_check(bool holds, const char *format, ...)
{
    if (holds)
        return;
    va_list arguments;
    va_start(arguments, format);
    guest_say("FAILED: ", format, arguments);
    va_end(arguments);
    _exit(GUEST_FAILED);
}

static inline int guest_passed(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline int guest_passed(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s: ", program_invocation_short_name);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
    return 0;
}

/* ---- the environment ---- */

static inline const char *guest_env(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL) {
        dprintf(STDERR_FILENO, "%s: set %s as tests/guest/README.md says\n",
                program_invocation_short_name, name);
        _exit(GUEST_MISUSED);
    }
    return value;
}

static inline const char *guest_url(void)
{
    return guest_env("GREENAPI_URL");
}
static inline const char *guest_token(void)
{
    return guest_env("GREENAPI_TOKEN");
}

/* The value of a text field in the stand-in's start line, such as a trap's URL. The next call
 * overwrites the value, so only one thread may call at a time. */
static inline const char *guest_endpoint(const char *name)
{
    static char value[512];
    const char *line = guest_env("GREENAPI_STANDIN");
    char key[64];
    snprintf(key, sizeof key, "\"%s\":\"", name);
    const char *place = strstr(line, key);
    guest_check(place != NULL, "the start line in GREENAPI_STANDIN lacks \"%s\"", name);
    snprintf(value, sizeof value, "%.*s", (int)strcspn(place + strlen(key), "\""),
             place + strlen(key));
    return value;
}

static inline void guest_too_late(int signal_number)
{
    static const char text[] = "FAILED: the time limit is over: something hangs\n";
    (void)signal_number;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(GUEST_FAILED);
}

/* Turns a hang into a failure with a message. A forked child has to set its own limit. */
static inline void guest_time_limit(unsigned seconds)
{
    struct sigaction action = {.sa_handler = guest_too_late};
    sigaction(SIGALRM, &action, NULL);
    alarm(seconds);
}

/* Must be called first. greenapi_delete_instance has no option for certificates, so this makes the
 * stand-in's CA the system's CA for this process. */
static inline void guest_begin(unsigned seconds)
{
    const char *ca_file = getenv("GREENAPI_CA_FILE");
    if (ca_file != NULL)
        setenv("SSL_CERT_FILE", ca_file, 1);
    guest_time_limit(seconds);
}

static inline int64_t guest_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- calls of every kind, which are answered "not found" ---- */

static inline void guest_expect(const char *what, greenapi_status status, int code)
{
    guest_check(status == GREENAPI_STATUS_NOT_FOUND && code == 404,
                "%s ended in %s with code %d instead of GREENAPI_STATUS_NOT_FOUND with 404", what,
                greenapi_status_name(status), code);
}

static inline void guest_expect_result(const char *what, const greenapi_result *result)
{
    guest_check(result->status == GREENAPI_STATUS_NOT_FOUND && result->code == 404 &&
                    result->attempts == 1 && result->id == GUEST_ID,
                "%s ended in %s, code %d, attempts %u (\"%s\") instead of "
                "GREENAPI_STATUS_NOT_FOUND at the first attempt",
                what, greenapi_status_name(result->status), (int)result->code,
                (unsigned)result->attempts, result->message);
}

static inline void guest_one_call(void)
{
    int code = -1;
    greenapi_status status = greenapi_delete_instance(guest_url(), guest_token(), GUEST_ID, &code);
    guest_expect("greenapi_delete_instance", status, code);
}

static inline greenapi_client *guest_client_of(const char *url, const greenapi_options *options)
{
    greenapi_client *client = NULL;
    greenapi_result problem;
    greenapi_status status = greenapi_client_new(url, guest_token(), options, &client, &problem);
    guest_check(status == GREENAPI_STATUS_OK && client != NULL, "greenapi_client_new: %s: %s",
                greenapi_status_name(status), problem.message);
    return client;
}

static inline greenapi_options guest_options(void)
{
    greenapi_options options;
    greenapi_options_init(&options, sizeof options);
    options.ca_file = getenv("GREENAPI_CA_FILE");
    options.proxy = "";
    return options;
}

static inline greenapi_client *guest_client(void)
{
    greenapi_options options = guest_options();
    return guest_client_of(guest_url(), &options);
}

static inline void guest_client_call(greenapi_client *client)
{
    greenapi_result result;
    greenapi_client_delete_instance(client, GUEST_ID, &result);
    guest_expect_result("greenapi_client_delete_instance", &result);
}

static inline greenapi_queue *guest_queue(void)
{
    greenapi_queue *queue = NULL;
    greenapi_status status = greenapi_queue_new(&queue);
    guest_check(status == GREENAPI_STATUS_OK && queue != NULL, "greenapi_queue_new: %s",
                greenapi_status_name(status));
    return queue;
}

static inline void guest_submit(greenapi_queue *queue, greenapi_client *client, uint64_t tag)
{
    greenapi_status status = greenapi_queue_submit(queue, client, GUEST_ID, tag);
    guest_check(status == GREENAPI_STATUS_OK, "greenapi_queue_submit: %s",
                greenapi_status_name(status));
}

/* Submits one deletion and takes its result. No other thread may use the queue meanwhile. */
static inline void guest_queue_call(greenapi_queue *queue, greenapi_client *client, uint64_t tag)
{
    greenapi_result results[2];
    guest_submit(queue, client, tag);
    size_t taken = greenapi_queue_take(queue, results, 2, -1);
    guest_check(taken == 1, "greenapi_queue_take gave %zu results for one submission", taken);
    guest_check(results[0].tag == tag, "greenapi_queue_take gave tag %" PRIu64 " for %" PRIu64,
                results[0].tag, tag);
    guest_expect_result("a queued deletion", &results[0]);
}

static inline bool guest_go_on(size_t done, size_t total, const greenapi_result *last,
                               void *user_data)
{
    (void)last;
    size_t *seen = user_data;
    guest_check(done == *seen + 1 && done <= total, "progress reported %zu of %zu after %zu", done,
                total, *seen);
    *seen = done;
    return true;
}

static inline void guest_bulk_call(greenapi_client *client)
{
    enum { COUNT = 8 };
    int64_t ids[COUNT];
    greenapi_result results[COUNT];
    size_t seen = 0;
    for (size_t i = 0; i < COUNT; i++)
        ids[i] = GUEST_ID;
    greenapi_status status =
        greenapi_client_delete_instances(client, ids, COUNT, results, guest_go_on, &seen);
    guest_check(status == GREENAPI_STATUS_NOT_FOUND && seen == COUNT,
                "greenapi_client_delete_instances returned %s after %zu of %d",
                greenapi_status_name(status), seen, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        guest_expect_result("one of greenapi_client_delete_instances", &results[i]);
}

/* ---- the stand-in's control interface ---- */

/* Sends one request. The answer's body is written to `answer`, which has `capacity` bytes. */
static inline void guest_control(const char *method, const char *target, const char *body,
                                 char *answer, size_t capacity)
{
    const char *control = guest_env("GREENAPI_CONTROL");
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    unsigned port = 0;
    guest_check(sscanf(control, "http://%63[0-9.]:%u", host, &port) == 2 &&
                    inet_pton(AF_INET, host, &address.sin_addr) == 1,
                "GREENAPI_CONTROL must look like http://127.0.0.1:1234, not %s", control);
    address.sin_port = htons((uint16_t)port);

    int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (connect(connection, (struct sockaddr *)&address, sizeof address) != 0)
        guest_check(errno == EINTR, "the control interface at %s: %s", control, strerror(errno));
    dprintf(connection,
            "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
            method, target, host, strlen(body), body);

    size_t length = 0;
    for (;;) {
        ssize_t got = read(connection, answer + length, capacity - 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    close(connection);
    answer[length] = '\0';
    guest_check(strncmp(answer, "HTTP/1.1 200", 12) == 0,
                "the control interface refused %s %s %s: %s", method, target, body, answer);
}

static inline void guest_tell(const char *method, const char *target, const char *body)
{
    char answer[4096];
    guest_control(method, target, body, answer, sizeof answer);
}

/* Waits until a counter of the stand-in is at least `count`, or at most `count` for "open". */
static inline void guest_await(const char *counter, long count)
{
    char target[96];
    snprintf(target, sizeof target, "/wait?%s=%ld&timeout_ms=20000", counter, count);
    guest_tell("GET", target, "");
}

/* A number of the stand-in's statistics: `key` within `object`, as in "connections" "accepted". */
static inline long guest_stat(const char *object, const char *key)
{
    static _Thread_local char answer[65536];
    guest_control("GET", "/stats", "", answer, sizeof answer);
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", object);
    const char *place = strstr(answer, quoted);
    if (place != NULL && *key != '\0') {
        snprintf(quoted, sizeof quoted, "\"%s\":", key);
        place = strstr(place, quoted);
    }
    guest_check(place != NULL, "the statistics lack %s %s: %s", object, key, answer);
    return strtol(place + strlen(quoted), NULL, 10);
}

/* Makes the stand-in hold the next `times` deletions until /release. */
static inline void guest_hold(unsigned times)
{
    char rule[128];
    snprintf(rule, sizeof rule, "[{\"method\":\"delete\",\"times\":%u,\"fault\":{\"hold\":true}}]",
             times);
    guest_tell("POST", "/faults", rule);
}

/* ---- this process as /proc shows it ---- */

/* Visits the names in a directory of /proc, without `.` and `..`. */
static inline void guest_list(const char *path, void (*visit)(DIR *, const char *name, void *),
                              void *data)
{
    DIR *directory = opendir(path);
    guest_check(directory != NULL, "%s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.')
            visit(directory, entry->d_name, data);
    closedir(directory);
}

static inline void guest_count_descriptor(DIR *directory, const char *name, void *data)
{
    if (atoi(name) != dirfd(directory))
        ++*(int *)data;
}

/* The number of open descriptors. */
static inline int guest_descriptors(void)
{
    int count = 0;
    guest_list("/proc/self/fd", guest_count_descriptor, &count);
    return count;
}

struct guest_threads {
    int all;
    int library; /* those whose name begins with greenapi- */
    char names[512];
};

static inline void guest_count_thread(DIR *directory, const char *name, void *data)
{
    struct guest_threads *threads = data;
    char path[300], comm[32] = "";
    snprintf(path, sizeof path, "%s/comm", name);
    int file = openat(dirfd(directory), path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return; /* the thread has ended meanwhile */
    ssize_t length = read(file, comm, sizeof comm - 1);
    close(file);
    if (length <= 0)
        return;
    comm[strcspn(comm, "\n")] = '\0';
    threads->all++;
    if (strncmp(comm, "greenapi-", 9) == 0) {
        threads->library++;
        size_t used = strlen(threads->names);
        snprintf(threads->names + used, sizeof threads->names - used, " %s", comm);
    }
}

static inline struct guest_threads guest_threads(void)
{
    struct guest_threads threads = {0};
    guest_list("/proc/self/task", guest_count_thread, &threads);
    return threads;
}

/* Resident memory in KiB. */
static inline long guest_memory(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    guest_check(file != NULL && fscanf(file, "%*d %ld", &pages) == 1, "/proc/self/statm: %s",
                strerror(errno));
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Limits the address space to `mib` more than now. */
static inline void guest_limit_memory(size_t mib)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    guest_check(file != NULL && fscanf(file, "%lu", &pages) == 1, "/proc/self/statm: %s",
                strerror(errno));
    fclose(file);
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + mib * 1024 * 1024;
    guest_check(setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit: %s", strerror(errno));
}

/* ---- threads and processes ---- */

static inline pthread_t guest_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    int problem = pthread_create(&thread, NULL, run, argument);
    guest_check(problem == 0, "pthread_create: %s", strerror(problem));
    return thread;
}

/* Waits for a child, which must exit with the status `expected`. */
static inline void guest_reap(pid_t child, int expected, const char *what)
{
    int status;
    pid_t reaped;
    while ((reaped = waitpid(child, &status, 0)) < 0 && errno == EINTR)
        continue;
    guest_check(reaped == child, "waitpid: %s", strerror(errno));
    guest_check(!WIFSIGNALED(status), "%s was killed by signal %d (%s)", what, WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    guest_check(WIFEXITED(status) && WEXITSTATUS(status) == expected,
                "%s exited with %d instead of %d", what, WEXITSTATUS(status), expected);
}

/* Whether a descriptor is readable now. */
static inline bool guest_readable(int descriptor)
{
    struct pollfd wait = {.fd = descriptor, .events = POLLIN};
    int ready;
    while ((ready = poll(&wait, 1, 0)) < 0 && errno == EINTR)
        continue;
    guest_check(ready >= 0, "poll: %s", strerror(errno));
    return ready == 1 && (wait.revents & POLLIN) != 0;
}

/* ---- proxies of the environment ---- */

/* A listening socket that takes the place of a proxy and never answers. Its address is written to
 * `url`. */
static inline int guest_listening(char *url, size_t capacity)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    guest_check(socket_ >= 0 && bind(socket_, (struct sockaddr *)&address, length) == 0 &&
                    listen(socket_, 16) == 0 &&
                    getsockname(socket_, (struct sockaddr *)&address, &length) == 0,
                "a listening socket: %s", strerror(errno));
    snprintf(url, capacity, "http://127.0.0.1:%d", ntohs(address.sin_port));
    return socket_;
}

static inline void guest_no_proxies(void)
{
    static const char *const names[] = {"HTTPS_PROXY", "https_proxy", "ALL_PROXY",
                                        "all_proxy",   "NO_PROXY",    "no_proxy"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

#endif
