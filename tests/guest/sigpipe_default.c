/*
 * SIGPIPE keeps its default disposition, which ends the process, while servers hang up at every
 * stage, over HTTP and HTTPS. The process survives, and an answer that was sent completely is used.
 *
 * First the program shows that SIGPIPE does kill on this system: a child that writes to a closed
 * connection dies of it.
 */
#include "guest.h"

enum { CALLS = 24 };

static void show_that_sigpipe_kills(void)
{
    pid_t pid = fork();
    guest_check(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        int pair[2];
        guest_check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair: %s",
                    strerror(errno));
        close(pair[1]);
        (void)!write(pair[0], "x", 1);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    guest_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE,
                "SIGPIPE does not kill on this system, so this program can show nothing");
}

/* Makes a few deletions, at once and one after the other. With `answered`, each must get its
 * answer. The library may notice that an idle connection was closed only after it has sent the next
 * request. That call needs a retry and then ends in GONE, because the first attempt may have
 * deleted the instance. */
static unsigned long call(const char *url, const char *what, bool answered)
{
    greenapi_options options = guest_options();
    options.timeout_ms = 2000;
    options.max_retries = answered ? 1 : 0;
    options.max_in_flight = 8;
    greenapi_client *client = guest_client_of(url, &options);

    int64_t ids[CALLS];
    greenapi_result results[CALLS];
    for (int i = 0; i < CALLS; i++)
        ids[i] = GUEST_ID;
    greenapi_client_delete_instances(client, ids, CALLS / 2, results, NULL, NULL);
    for (int i = CALLS / 2; i < CALLS; i++)
        greenapi_client_delete_instance(client, ids[i], &results[i]);
    greenapi_client_free(client);

    for (int i = 0; i < CALLS; i++) {
        greenapi_status status = results[i].status;
        bool told = status == GREENAPI_STATUS_NOT_FOUND ||
                    (status == GREENAPI_STATUS_GONE && results[i].attempts > 1);
        guest_check(told || (!answered && status != GREENAPI_STATUS_INTERNAL &&
                             status != GREENAPI_STATUS_INVALID_ARGUMENT &&
                             greenapi_status_effect(status) != GREENAPI_EFFECT_DELETED),
                    "%s at %s: %s after %u attempts (%s)", what, url, greenapi_status_name(status),
                    (unsigned)results[i].attempts, results[i].message);
    }
    return CALLS;
}

int main(void)
{
    static const char *const stages[] = {"head",      "received",  "acted",
                                         "half_head", "half_body", "answered"};
    static const char *const ends[] = {"reset", "fin", "close_unannounced"};
    static const char *const servers[] = {"http", "https_h1", "https"};
    static const char *const traps[] = {"accept_reset", "accept_fin",           "tls_reset",
                                        "tls_garbage",  "tls_reset_mid_answer", "ssh_banner",
                                        "http_to_tls"};

    signal(SIGPIPE, SIG_DFL);
    sigset_t mask;
    sigemptyset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    show_that_sigpipe_kills();

    guest_begin(300);
    guest_tell("POST", "/reset", "");
    unsigned long calls = 0;
    for (size_t server = 0; server < sizeof servers / sizeof *servers; server++) {
        for (size_t stage = 0; stage < sizeof stages / sizeof *stages; stage++) {
            for (size_t end = 0; end < sizeof ends / sizeof *ends; end++) {
                char rule[128];
                snprintf(rule, sizeof rule, "[{\"fault\":{\"stage\":\"%s\",\"then\":\"%s\"}}]",
                         stages[stage], ends[end]);
                guest_tell("DELETE", "/faults", "");
                guest_tell("POST", "/faults", rule);
                /* A reset may discard an answer that was sent before it, an orderly end may not.
                 * Over HTTP/2 both also end the other calls on the shared connection. */
                bool answered = strcmp(stages[stage], "answered") == 0 &&
                                strcmp(ends[end], "reset") != 0 &&
                                strcmp(servers[server], "https") != 0;
                calls += call(guest_endpoint(servers[server]), rule, answered);
            }
        }
    }
    guest_tell("DELETE", "/faults", "");
    for (size_t trap = 0; trap < sizeof traps / sizeof *traps; trap++)
        for (int round = 0; round < 4; round++)
            calls += call(guest_endpoint(traps[trap]), traps[trap], false);

    struct sigaction action;
    sigaction(SIGPIPE, NULL, &action);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    guest_check(action.sa_handler == SIG_DFL && sigismember(&mask, SIGPIPE) == 0,
                "the library changed what SIGPIPE does");
    return guest_passed(
        "survived %lu calls to servers that hang up at every stage, with SIGPIPE at its default",
        calls);
}
