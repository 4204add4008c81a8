/*
 * A set-user-ID program takes neither a proxy nor certificates from its environment, which belongs
 * to a user with fewer rights.
 */
#include "guest.h"
#include <sys/auxv.h>
#include <sys/stat.h>

/* An unprivileged user, who does not need an entry in /etc/passwd. */
enum { OTHER_USER = 65533, SECURE = 3, NOT_SECURE = 4 };

static const char *https_url;

/* ---- the program that is started, with more rights than its caller or with the same ---- */

static greenapi_status by_client(void)
{
    greenapi_options options;
    greenapi_options_init(&options, sizeof options);
    options.timeout_ms = 2000; /* the proxy never answers */
    options.max_retries = 0;
    greenapi_client *client = guest_client_of(https_url, &options);
    greenapi_result result;
    greenapi_status status = greenapi_client_delete_instance(client, GUEST_ID, &result);
    greenapi_client_free(client);
    return status;
}

static int started(void)
{
    https_url = guest_env("GREENAPI_HTTPS_URL");
    greenapi_status status = by_client();
    if (getauxval(AT_SECURE) == 0) {
        guest_check(status == GREENAPI_STATUS_CONNECT_FAILED, "through the proxy: %s",
                    greenapi_status_name(status));
        return NOT_SECURE;
    }
    /* Only SSL_CERT_FILE, which must be ignored, contains the stand-in's CA. */
    guest_check(status == GREENAPI_STATUS_TLS_FAILED, "a client, set-user-ID: %s",
                greenapi_status_name(status));
    status = greenapi_delete_instance(https_url, guest_token(), GUEST_ID, NULL);
    guest_check(status == GREENAPI_STATUS_TLS_FAILED, "the one call, set-user-ID: %s",
                greenapi_status_name(status));
    return SECURE;
}

/* ---- the program that starts it ---- */

static int run(const char *program, uid_t user)
{
    pid_t child = fork();
    guest_check(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        char *const arguments[] = {(char *)program, "started", NULL};
        if (setgid(user) == 0 && setuid(user) == 0)
            execv(program, arguments);
        guest_fail("%s as user %d: %s", program, (int)user, strerror(errno));
    }
    int status = 0;
    guest_check(waitpid(child, &status, 0) == child, "waitpid: %s", strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void copy_of_this_program(const char *path)
{
    char buffer[65536];
    ssize_t count;
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    guest_check(from >= 0 && to >= 0, "%s: %s", path, strerror(errno));
    while ((count = read(from, buffer, sizeof buffer)) > 0)
        guest_check(write(to, buffer, (size_t)count) == count, "%s: %s", path, strerror(errno));
    guest_check(count == 0 && fchmod(to, 04755) == 0, "%s: %s", path, strerror(errno));
    close(from);
    close(to);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "started") == 0)
        return started();

    guest_begin(60);
    if (geteuid() != 0)
        guest_skip("only root can make a set-user-ID program of another user");
    char proxy[64];
    int socket_ = guest_listening(proxy, sizeof proxy);
    guest_no_proxies();
    setenv("HTTPS_PROXY", proxy, 1);

    /* The program runs as root, so only the other user may be able to reach it. */
    char directory[] = "/tmp/greenapi-set-user-id-XXXXXX";
    char program[sizeof directory + 16];
    guest_check(mkdtemp(directory) != NULL && chown(directory, OTHER_USER, 0) == 0, "%s: %s",
                directory, strerror(errno));
    snprintf(program, sizeof program, "%s/program", directory);
    copy_of_this_program(program);
    int ended = run(program, OTHER_USER);
    bool asked = guest_readable(socket_);
    int ended_plainly = run(program, 0);
    bool asked_plainly = guest_readable(socket_);
    unlink(program);
    rmdir(directory);

    guest_check(ended_plainly == NOT_SECURE && asked_plainly,
                "the same program, run by root, exits with %d; the proxy was %s", ended_plainly,
                asked_plainly ? "asked" : "not asked");
    if (ended == NOT_SECURE)
        guest_skip("set-user-ID has no effect in /tmp");
    guest_check(ended == SECURE && !asked,
                "the set-user-ID program exits with %d; the proxy was %s", ended,
                asked ? "asked" : "not asked");
    return guest_passed("a set-user-ID program takes no proxy and no certificates from outside");
}
