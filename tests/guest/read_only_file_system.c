/*
 * Every kind of call works while all file systems are read-only.
 */
#include "guest.h"
#include <sched.h>
#include <sys/mount.h>

int main(void)
{
    guest_begin(60);
    guest_tell("POST", "/reset", "");
    struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &read_only, sizeof read_only) != 0)
        guest_skip("this user may not make the file systems read-only: %s", strerror(errno));
    static const char *const places[] = {"/", "/tmp", "/var/tmp", "/dev/shm", "/run"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        guest_check(access(places[i], W_OK) != 0, "%s is still writable", places[i]);

    guest_one_call();
    greenapi_client *client = guest_client();
    greenapi_queue *queue = guest_queue();
    guest_client_call(client);
    guest_bulk_call(client);
    guest_queue_call(queue, client, 1);
    greenapi_queue_free(queue);
    greenapi_client_free(client);
    return guest_passed("every kind of call works on read-only file systems");
}
