/*
 * A forked child may end in any way, whether it called the library or not. The parent's calls are
 * still answered on their connections, and its idle connections can still be used.
 */
#include "guest.h"

enum { CALLS = 4, KINDS = 3 };

static const char *const kinds[KINDS] = {"exit()", "_exit()", "return from main"};
static greenapi_client *client;

static void *call(void *unused)
{
    (void)unused;
    guest_client_call(client);
    return NULL;
}

/* Forks two children for every way to end, one of which calls the library. Returns true in a child
 * that has to return from main, and in the parent once the children's connections are closed. */
static bool fork_children(void)
{
    long accepted = guest_stat("connections", "accepted");
    long open = guest_stat("connections", "open");
    for (int i = 0; i < 2 * KINDS; i++) {
        bool calling = i >= KINDS;
        if (i == KINDS)
            guest_check(guest_stat("connections", "accepted") == accepted,
                        "a child that called nothing opened a connection");
        pid_t pid = fork();
        guest_check(pid >= 0, "fork: %s", strerror(errno));
        if (pid == 0) {
            guest_time_limit(10);
            if (calling) {
                guest_one_call();
                guest_client_call(client);
                greenapi_client_free(client);
            }
            if (i % KINDS == 0)
                exit(0);
            if (i % KINDS == 1)
                _exit(0);
            return true;
        }
        guest_reap(pid, 0, kinds[i % KINDS]);
    }
    guest_check(guest_stat("connections", "accepted") >= accepted + KINDS,
                "a child called over a connection of its parent");
    guest_await("open", open);
    guest_check(guest_stat("connections", "open") == open,
                "the children closed connections of the parent");
    return false;
}

int main(void)
{
    guest_begin(60);
    guest_tell("POST", "/reset", "");
    guest_hold(CALLS);
    client = guest_client();
    pthread_t callers[CALLS];
    for (int i = 0; i < CALLS; i++)
        callers[i] = guest_thread(call, NULL);
    guest_await("held", CALLS);

    if (fork_children())
        return 0;
    guest_check(guest_stat("held", "") == CALLS, "the children ended the parent's calls");
    guest_tell("POST", "/release", "");
    for (int i = 0; i < CALLS; i++)
        pthread_join(callers[i], NULL);

    /* Now all connections of the parent are idle. */
    if (fork_children())
        return 0;
    long accepted = guest_stat("connections", "accepted");
    for (int i = 0; i < CALLS; i++)
        guest_client_call(client);
    guest_check(guest_stat("connections", "accepted") == accepted,
                "the parent had to open a connection after its children ended");

    greenapi_client_free(client);
    return guest_passed(
        "%d children ended by exit(), _exit() and return; %d calls under way and %d later "
        "ones were answered on the parent's own connections",
        4 * KINDS, CALLS, CALLS);
}
