/*
 * The process can end at once, without a crash and without a hang, while other threads are inside
 * calls of every kind that the server keeps waiting: by exit(), return from main, quick_exit(),
 * _exit(), a signal, and by exit() with an exit handler that makes another call.
 */
#include "guest.h"

enum { THREADS = 8, LIMIT_MS = 1000 };

static const char *const ways[] = {"return", "exit",  "quick_exit",
                                   "_exit",  "abort", "exit_calling"};
static greenapi_client *client;

/* Only the end of the process may end these calls, so a call that returns is a failure. */
static void *call(void *argument)
{
    greenapi_result results[4];
    const int64_t ids[1] = {GUEST_ID};
    greenapi_queue *queue;
    switch ((size_t)argument % 4) {
    case 0:
        greenapi_delete_instance(guest_url(), guest_token(), GUEST_ID, NULL);
        break;
    case 1:
        greenapi_client_delete_instance(client, GUEST_ID, NULL);
        break;
    case 2:
        greenapi_client_delete_instances(client, ids, 1, results, NULL, NULL);
        break;
    default:
        queue = guest_queue();
        guest_submit(queue, client, 1);
        greenapi_queue_take(queue, results, 4, -1);
    }
    guest_fail("a call returned while the server still kept it waiting");
}

static void call_once_more(void)
{
    guest_one_call();
}

/* The program that ends with calls under way. It writes to descriptor 3 just before it ends. */
static int end(const char *way)
{
    guest_begin(60);
    client = guest_client();
    for (size_t i = 0; i < THREADS; i++)
        guest_thread(call, (void *)i);
    guest_await("held", THREADS);
    if (strcmp(way, "exit_calling") == 0)
        atexit(call_once_more);
    guest_check(write(3, "!", 1) == 1, "write: %s", strerror(errno));
    close(3);

    if (strcmp(way, "exit") == 0 || strcmp(way, "exit_calling") == 0)
        exit(5);
    if (strcmp(way, "quick_exit") == 0)
        quick_exit(5);
    if (strcmp(way, "_exit") == 0)
        _exit(5);
    if (strcmp(way, "abort") == 0)
        abort();
    return 5;
}

static int64_t try_way(const char *way)
{
    int told[2];
    guest_tell("POST", "/reset", "");
    guest_hold(THREADS);
    guest_check(pipe2(told, O_CLOEXEC) == 0, "pipe2: %s", strerror(errno));
    pid_t pid = fork();
    guest_check(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        const struct rlimit no_core = {0};
        setrlimit(RLIMIT_CORE, &no_core); /* abort() is one of the ways to end */
        guest_check(told[1] != 3 ? dup2(told[1], 3) == 3 : fcntl(3, F_SETFD, 0) == 0, "dup2: %s",
                    strerror(errno));
        execl("/proc/self/exe", program_invocation_name, way, (char *)NULL);
        guest_fail("execl: %s", strerror(errno));
    }
    close(told[1]);
    char byte;
    guest_check(read(told[0], &byte, 1) == 1, "%s: the program did not get as far as its end", way);
    int64_t began = guest_now_ms();
    close(told[0]);

    int status;
    guest_check(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
    int64_t took = guest_now_ms() - began;
    if (strcmp(way, "abort") == 0)
        guest_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: wait status %#x", way,
                    (unsigned)status);
    else
        guest_check(WIFEXITED(status) && WEXITSTATUS(status) == 5, "%s: wait status %#x", way,
                    (unsigned)status);
    guest_check(took < LIMIT_MS, "%s: took %" PRId64 " ms", way, took);
    return took;
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return end(argv[1]);

    guest_begin(120);
    int64_t slowest = 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int64_t took = try_way(ways[i]);
        slowest = took > slowest ? took : slowest;
    }
    return guest_passed("%zu ways to end with %d threads inside calls, the slowest took %" PRId64
                        " ms",
                        sizeof ways / sizeof *ways, THREADS, slowest);
}
