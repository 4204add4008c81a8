/*
 * A child that is forked while another thread opens or closes a journal does not keep the journal's
 * lock, so its parent can always open the journal again.
 */
#include "guest.h"
#include <sched.h>

enum { ROUNDS = 20, CHILDREN = 400 };

static char journal[] = "/dev/shm/greenapi-guest-journal-XXXXXX";
static atomic_uint opened;
static atomic_bool enough;

static void *open_and_close(void *unused)
{
    (void)unused;
    greenapi_options options = guest_options();
    options.journal = journal;
    while (!atomic_load(&enough)) {
        greenapi_client_free(guest_client_of(guest_url(), &options));
        atomic_fetch_add(&opened, 1);
    }
    return NULL;
}

static void wait_for_openings(unsigned count)
{
    unsigned before = atomic_load(&opened);
    while (atomic_load(&opened) - before < count)
        sched_yield();
}

int main(void)
{
    guest_begin(60);
    /* In memory, where a journal is opened and closed most often during the forks. */
    int file = mkstemp(journal);
    if (file < 0)
        guest_skip("%s: %s", journal, strerror(errno));
    close(file);
    pthread_t thread = guest_thread(open_and_close, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        int ends[2], status;
        guest_check(pipe(ends) == 0, "pipe: %s", strerror(errno));
        for (int i = 0; i < CHILDREN; i++) {
            /* On a busy machine the other thread might get no turn during all of the forks. */
            if (i % 100 == 0)
                wait_for_openings(1);
            pid_t child = fork();
            guest_check(child >= 0, "fork: %s", strerror(errno));
            if (child == 0) {
                /* Lives until the parent closes its end. */
                char end;
                close(ends[1]);
                _exit(read(ends[0], &end, 1) != 0);
            }
        }
        /* The journal is closed, opened and closed again while the children live. */
        wait_for_openings(2);
        close(ends[0]);
        close(ends[1]);
        while (waitpid(-1, &status, 0) > 0)
            guest_check(status == 0, "a child ended with status %x", (unsigned)status);
    }
    atomic_store(&enough, true);
    pthread_join(thread, NULL);
    unlink(journal);
    return guest_passed("the journal was opened %u times beside %d forks", atomic_load(&opened),
                        ROUNDS * CHILDREN);
}
