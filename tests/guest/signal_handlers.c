/*
 * The host's signal handlers run only on the host's threads, calls that a handler interrupts go on,
 * and the library changes no disposition and no signal mask.
 */
#include "guest.h"
#include <sys/syscall.h>

/* Delays the answers, so that signals arrive while calls are waiting. */
#define HELD_BY_THE_SERVER "[{\"method\":\"delete\",\"fault\":{\"delay_ms\":30}}]"

enum { ROUNDS = 8, BLOCKED_SIGNALS = 200 };

static _Thread_local volatile sig_atomic_t is_host;
static atomic_ulong handled, on_foreign_threads, blocked_handled;
static atomic_bool stop;
static pthread_t calling;

static void note(int number)
{
    atomic_fetch_add(number == SIGUSR2 ? &blocked_handled : &handled, 1);
    if (!is_host)
        atomic_fetch_add(&on_foreign_threads, 1);
}

/* Sends signals to the calling thread and to the process. The kernel gives those of the process to
 * any thread that does not block them. */
static void *flood(void *unused)
{
    (void)unused;
    is_host = 1;
    const struct timespec pause = {.tv_nsec = 200000};
    while (!atomic_load(&stop)) {
        pthread_kill(calling, SIGUSR1);
        pthread_kill(calling, SIGALRM);
        kill(getpid(), SIGUSR1);
        kill(getpid(), SIGALRM);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void handle(int number, int flags)
{
    struct sigaction action = {.sa_handler = note, .sa_flags = flags};
    sigaction(number, &action, NULL);
}

struct state {
    struct sigaction actions[NSIG];
    sigset_t mask;
};

static void read_state(struct state *state)
{
    memset(state, 0, sizeof *state);
    for (int number = 1; number < NSIG; number++)
        sigaction(number, NULL, &state->actions[number]);
    pthread_sigmask(SIG_SETMASK, NULL, &state->mask);
}

static void check_state(const struct state *before)
{
    struct state now;
    read_state(&now);
    for (int number = 1; number < NSIG; number++) {
        const struct sigaction *was = &before->actions[number], *is = &now.actions[number];
        guest_check(was->sa_handler == is->sa_handler && was->sa_flags == is->sa_flags,
                    "the disposition of signal %d was changed", number);
        guest_check(sigismember(&before->mask, number) == sigismember(&now.mask, number),
                    "the mask of the calling thread was changed for signal %d", number);
        for (int other = 1; other < NSIG; other++)
            guest_check(sigismember(&was->sa_mask, other) == sigismember(&is->sa_mask, other),
                        "the mask of the handler of signal %d was changed", number);
    }
}

/* Faults, which a thread causes itself and which the host's crash reporter handles. */
static bool is_fault(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL ||
           number == SIGTRAP || number == SIGSYS;
}

/* Checks in /proc which signals a thread of the library blocks. */
static void check_library_thread(DIR *directory, const char *name, void *data)
{
    char path[300], line[256], comm[32] = "";
    unsigned long long blocked = 0;
    snprintf(path, sizeof path, "%s/status", name);
    int file = openat(dirfd(directory), path, O_RDONLY | O_CLOEXEC);
    FILE *status = file >= 0 ? fdopen(file, "r") : NULL;
    if (status == NULL)
        return;
    while (fgets(line, sizeof line, status) != NULL) {
        (void)sscanf(line, "Name: %31[^\n]", comm);
        (void)sscanf(line, "SigBlk: %llx", &blocked);
    }
    fclose(status);
    if (strncmp(comm, "greenapi-", 9) != 0)
        return;
    ++*(int *)data;
    for (int number = 1; number < SIGRTMIN; number++) {
        /* SIGKILL and SIGSTOP cannot be blocked; from 32 to SIGRTMIN the C library uses them. */
        if (number == SIGKILL || number == SIGSTOP || number >= 32)
            continue;
        guest_check((blocked >> (number - 1) & 1) != is_fault(number), "thread %s: signal %d is %s",
                    comm, number, is_fault(number) ? "blocked" : "let through");
    }
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        guest_check((blocked >> (number - 1) & 1) != 0, "thread %s lets signal %d through", comm,
                    number);
}

static void call_all(greenapi_client *client, greenapi_queue *queue)
{
    for (uint64_t round = 0; round < ROUNDS; round++) {
        guest_one_call();
        guest_client_call(client);
        guest_queue_call(queue, client, round);
        guest_bulk_call(client);
    }
}

int main(void)
{
    is_host = 1;
    guest_begin(120);
    alarm(0); /* this program uses SIGALRM itself, so it has no time limit of its own */
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    handle(SIGUSR2, 0);
    handle(SIGUSR1, SA_RESTART);
    handle(SIGALRM, 0);
    struct state before;
    read_state(&before);

    guest_tell("POST", "/reset", "");
    guest_tell("POST", "/faults", HELD_BY_THE_SERVER);
    greenapi_client *client = guest_client();
    greenapi_queue *queue = guest_queue();
    guest_one_call();
    check_state(&before);
    int library_threads = 0;
    guest_list("/proc/self/task", check_library_thread, &library_threads);
    guest_check(library_threads > 0, "no thread of the library was found");

    /* Every host thread blocks SIGUSR2, so the kernel would give a SIGUSR2 of the process to a
     * thread of the library that does not block it. */
    for (int i = 0; i < BLOCKED_SIGNALS; i++) {
        kill(getpid(), SIGUSR2);
        guest_client_call(client);
        if (i == 4)
            guest_tell("DELETE", "/faults", "");
    }
    guest_check(atomic_load(&blocked_handled) == 0,
                "a signal that all host threads block was handled %lu times",
                atomic_load(&blocked_handled));
    sigemptyset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    guest_check(atomic_load(&blocked_handled) == 1,
                "the blocked signal did not wait for the host's thread");

    guest_tell("POST", "/faults", HELD_BY_THE_SERVER);
    calling = pthread_self();
    unsigned long seen = 0;
    for (int restarting = 0; restarting < 2; restarting++) {
        handle(SIGUSR1, restarting ? SA_RESTART : 0);
        handle(SIGALRM, restarting ? 0 : SA_RESTART);
        read_state(&before);
        atomic_store(&stop, false);
        pthread_t flooding = guest_thread(flood, NULL);
        call_all(client, queue);
        atomic_store(&stop, true);
        pthread_join(flooding, NULL);
        check_state(&before);
        guest_check(atomic_load(&handled) > seen + 100, "only %lu signals arrived",
                    atomic_load(&handled) - seen);
        seen = atomic_load(&handled);
    }
    guest_check(atomic_load(&on_foreign_threads) == 0,
                "%lu signals were handled on threads of the library",
                atomic_load(&on_foreign_threads));

    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return guest_passed(
        "%lu signals were handled on host threads, none on the library's %d; every call went on; "
        "no disposition and no mask was changed",
        seen, library_threads);
}
