/*
 * The library makes no system call that systemd's SystemCallFilter=~@privileged @resources refuses:
 * by default such a filter kills the service.
 */
#include "guest.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* The calls of both sets that every architecture has. */
static const int refused[] = {
    SYS_acct,
    SYS_adjtimex,
    SYS_capset,
    SYS_chroot,
    SYS_clock_adjtime,
    SYS_clock_settime,
    SYS_fanotify_init,
    SYS_fchown,
    SYS_fchownat,
    SYS_ioprio_set,
    SYS_mbind,
    SYS_migrate_pages,
    SYS_move_pages,
    SYS_open_by_handle_at,
    SYS_sched_setaffinity,
    SYS_sched_setattr,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
    SYS_set_mempolicy,
    SYS_setfsuid,
    SYS_setgroups,
    SYS_setpriority,
    SYS_setresuid,
    SYS_setreuid,
    SYS_setrlimit,
    SYS_settimeofday,
    SYS_setuid,
};

enum { REFUSED = sizeof refused / sizeof *refused };

static void tell(int signal_number, siginfo_t *about, void *context)
{
    (void)signal_number;
    (void)context;
    guest_fail("system call %d, which kills a hardened service", about->si_syscall);
}

/* The filter raises SIGSYS in the calling thread instead of killing, so that the number of the call
 * can be told. */
static void refuse(void)
{
    struct sock_filter filter[REFUSED + 3];
    size_t length = 0;
    filter[length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < REFUSED; i++)
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                        (unsigned)refused[i], REFUSED - i, 0);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    struct sock_fprog program = {(unsigned short)length, filter};

    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO};
    sigaction(SIGSYS, &action, NULL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        guest_skip("no system calls can be filtered here: %s", strerror(errno));
}

static void *call(void *client)
{
    guest_client_call(client);
    return NULL;
}

int main(void)
{
    guest_begin(60);
    const char *https_url = guest_env("GREENAPI_HTTPS_URL");
    char journal[64];
    snprintf(journal, sizeof journal, "/tmp/greenapi-hardened-%d", (int)getpid());
    guest_tell("POST", "/reset", "");
    refuse();

    guest_one_call();
    greenapi_options options = guest_options();
    options.journal = journal;
    greenapi_client *client = guest_client_of(https_url, &options);
    guest_client_call(client);
    pthread_join(guest_thread(call, client), NULL);
    guest_bulk_call(client);
    greenapi_queue *queue = guest_queue();
    guest_queue_call(queue, client, 1);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    unlink(journal);
    pid_t child = fork();
    if (child == 0) {
        guest_time_limit(60);
        guest_one_call();
        _exit(0);
    }
    guest_reap(child, 0, "a child");
    return guest_passed("%d system calls of @privileged and @resources are not made", REFUSED);
}
