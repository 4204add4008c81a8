/*
 * Every kind of call works without /proc.
 */
#include "guest.h"
#include <sched.h>
#include <sys/mount.h>

int main(void)
{
    guest_begin(60);
    guest_tell("POST", "/reset", "");
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "/proc", "tmpfs", 0, NULL) != 0)
        guest_skip("this user may not mount over /proc: %s", strerror(errno));
    guest_check(access("/proc/self", F_OK) != 0, "/proc is still there");

    guest_one_call();
    greenapi_client *client = guest_client();
    greenapi_queue *queue = guest_queue();
    guest_client_call(client);
    guest_bulk_call(client);
    guest_queue_call(queue, client, 1);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return guest_passed("every kind of call works without /proc");
}
