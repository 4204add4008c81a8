/*
 * A program that is started while connections come and go inherits only descriptors 0, 1 and 2, an
 * empty signal mask and default dispositions.
 */
#include "guest.h"
#include <spawn.h>

enum { CALLERS = 3, PROGRAMS = 60 };

extern char **environ;

static atomic_bool stop;
static greenapi_client *client;

/* ---- the program that is started ---- */

static void check_descriptor(DIR *directory, const char *name, void *unused)
{
    (void)unused;
    int descriptor = atoi(name);
    char target[256] = "";
    if (descriptor <= 2 || descriptor == dirfd(directory))
        return;
    (void)!readlinkat(dirfd(directory), name, target, sizeof target - 1);
    guest_fail("descriptor %d (%s) leaked through exec", descriptor, target);
}

static int started(void)
{
    guest_list("/proc/self/fd", check_descriptor, NULL);
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;
        guest_check(sigismember(&mask, number) != 1, "signal %d is blocked after exec", number);
        if (sigaction(number, NULL, &action) == 0)
            guest_check(action.sa_handler == SIG_DFL, "signal %d is not at its default after exec",
                        number);
    }
    return 0;
}

/* ---- the program that starts it ---- */

static void *call(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        guest_one_call();
        guest_client_call(client);
    }
    return NULL;
}

static pid_t start(int i)
{
    char *const arguments[] = {program_invocation_name, "started", NULL};
    pid_t pid;
    if (i % 2 == 0) {
        int problem = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ);
        guest_check(problem == 0, "posix_spawn: %s", strerror(problem));
        return pid;
    }
    pid = fork();
    guest_check(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        execv("/proc/self/exe", arguments);
        guest_fail("execv: %s", strerror(errno));
    }
    return pid;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "started") == 0)
        return started();

    /* Undo what this program inherited, for which the library is not responsible. */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    closefrom(3);

    guest_begin(120);
    guest_tell("POST", "/reset", "");
    /* The stand-in closes every connection, so there are always some that have just been opened. */
    guest_tell("POST", "/faults", "[{\"fault\":{\"then\":\"fin\"}}]");
    client = guest_client();
    greenapi_queue *queue = guest_queue();
    pthread_t callers[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        callers[i] = guest_thread(call, NULL);
    guest_await("received", 4 * CALLERS);

    for (int i = 0; i < PROGRAMS; i++)
        guest_reap(start(i), 0, "a started program");

    atomic_store(&stop, true);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(callers[i], NULL);
    long connections = guest_stat("connections", "accepted");
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return guest_passed(
        "%d programs started among %ld connections inherited no descriptor, mask or disposition",
        PROGRAMS, connections);
}
