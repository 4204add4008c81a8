/*
 * SSL_CERT_FILE, SSL_CERT_DIR and ca_file may name anything: a device without end, a file that is
 * too large, a FIFO that nobody writes to, a directory. Nothing hangs, memory stays bounded and may
 * run out, and the message names the file. Links are followed, as `openssl rehash` makes them.
 */
#include "guest.h"
#include <sys/stat.h>

static char folder[] = "/tmp/greenapi-certificates-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[8][128];
    static unsigned next;
    char *place = path[next++ % 8];
    snprintf(place, sizeof path[0], "%s/%s", folder, name);
    return place;
}

/* Runs in a child: a library that reads without a limit ends the process. */
static void in_child(void (*body)(const char *path), const char *path)
{
    pid_t child = fork();
    guest_check(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        guest_time_limit(60);
        body(path);
        _exit(0);
    }
    guest_reap(child, 0, path);
}

/* A call with the environment's certificates. */
static greenapi_result call(void)
{
    greenapi_options options = guest_options();
    options.ca_file = NULL;
    options.max_retries = 0;
    greenapi_result result;
    greenapi_client *client = guest_client_of(guest_env("GREENAPI_HTTPS_URL"), &options);
    greenapi_client_delete_instance(client, GUEST_ID, &result);
    greenapi_client_free(client);
    return result;
}

static void expect_answer(const char *what)
{
    greenapi_result result = call();
    guest_expect_result(what, &result);
}

static void refused(const char *path)
{
    guest_limit_memory(400);
    setenv("SSL_CERT_FILE", path, 1);
    greenapi_result result = call();
    guest_check(result.status == GREENAPI_STATUS_TLS_FAILED && strstr(result.message, path) != NULL,
                "SSL_CERT_FILE=%s: %s (%s)", path, greenapi_status_name(result.status),
                result.message);

    greenapi_options options = guest_options();
    options.ca_file = path;
    greenapi_client *client = NULL;
    greenapi_status status =
        greenapi_client_new(guest_url(), guest_token(), &options, &client, &result);
    guest_check(status == GREENAPI_STATUS_INVALID_ARGUMENT && strstr(result.message, path) != NULL,
                "ca_file %s: %s (%s)", path, greenapi_status_name(status), result.message);

    /* The other certificates of the environment are used. */
    setenv("SSL_CERT_DIR", folder, 1);
    expect_answer("a call with SSL_CERT_DIR");
}

static void accepted(const char *path)
{
    setenv("SSL_CERT_FILE", path, 1);
    expect_answer("a call with SSL_CERT_FILE");
    greenapi_options options = guest_options();
    options.ca_file = path;
    greenapi_client *client = guest_client_of(guest_env("GREENAPI_HTTPS_URL"), &options);
    guest_client_call(client);
    greenapi_client_free(client);
}

/* While there is no memory for the file, calls end in OUT_OF_RESOURCES; then they work. */
static void without_memory(const char *path)
{
    guest_one_call();
    struct rlimit before;
    getrlimit(RLIMIT_AS, &before);
    guest_limit_memory(10);
    setenv("SSL_CERT_FILE", path, 1);
    greenapi_result result = call();
    greenapi_options options = guest_options();
    options.ca_file = path;
    greenapi_client *client = NULL;
    greenapi_result problem;
    greenapi_client_new(guest_url(), guest_token(), &options, &client, &problem);
    setrlimit(RLIMIT_AS, &before);
    guest_check(result.status == GREENAPI_STATUS_OUT_OF_RESOURCES, "SSL_CERT_FILE: %s (%s)",
                greenapi_status_name(result.status), result.message);
    guest_check(problem.status == GREENAPI_STATUS_OUT_OF_RESOURCES, "ca_file: %s (%s)",
                greenapi_status_name(problem.status), problem.message);
    accepted(path);
}

/* The same for a text with so many certificates that the library's reserve cannot hold them. */
static void text_without_memory(const char *path)
{
    enum { COPIES = 60000 };
    static char one[4096];
    FILE *file = fopen(path, "re");
    size_t length = file == NULL ? 0 : fread(one, 1, sizeof one, file);
    guest_check(length > 0 && length < sizeof one, "%s has %zu bytes", path, length);
    fclose(file);
    char *text = calloc(COPIES * length + 1, 1);
    guest_check(text != NULL, "no memory for the test");
    for (size_t i = 0; i < COPIES; i++)
        memcpy(text + i * length, one, length);
    greenapi_options options = guest_options();
    options.ca_file = NULL;
    options.ca_pem = text;
    greenapi_client *client = NULL;
    greenapi_result problem;
    guest_one_call();
    struct rlimit before;
    getrlimit(RLIMIT_AS, &before);
    guest_limit_memory(4);
    greenapi_client_new(guest_url(), guest_token(), &options, &client, &problem);
    setrlimit(RLIMIT_AS, &before);
    guest_check(problem.status == GREENAPI_STATUS_OUT_OF_RESOURCES, "ca_pem: %s (%s)",
                greenapi_status_name(problem.status), problem.message);
    client = guest_client_of(guest_env("GREENAPI_HTTPS_URL"), &options);
    guest_client_call(client);
    greenapi_client_free(client);
    free(text);
}

int main(void)
{
    guest_begin(240);
    guest_tell("POST", "/reset", "");
    unsetenv("SSL_CERT_DIR");
    guest_check(mkdtemp(folder) != NULL, "%s: %s", folder, strerror(errno));
    const char *large = in_folder("large"), *bundle = in_folder("bundle"),
               *fifo = in_folder("fifo"), *hash = in_folder("01234567.0"),
               *endless = in_folder("endless");
    int file = open(large, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    guest_check(file >= 0 && ftruncate(file, 200 << 20) == 0, "%s: %s", large, strerror(errno));
    close(file);
    guest_check(mkfifo(fifo, 0600) == 0 && symlink(guest_env("GREENAPI_CA_FILE"), hash) == 0 &&
                    symlink("/dev/zero", endless) == 0,
                "%s: %s", folder, strerror(errno));
    /* A bundle that is almost too large: comments and a certificate. */
    char command[512];
    snprintf(command, sizeof command, "{ yes '# no certificate' | head -n 880000; cat '%s'; } > %s",
             guest_env("GREENAPI_CA_FILE"), bundle);
    guest_check(system(command) == 0, "%s", command);

    in_child(refused, "/dev/zero");
    in_child(refused, large);
    in_child(refused, fifo);
    in_child(refused, folder);
    in_child(accepted, hash);
    in_child(accepted, bundle);
    in_child(without_memory, bundle);
    in_child(text_without_memory, guest_env("GREENAPI_CA_FILE"));

    const char *made[] = {large, bundle, fifo, hash, endless};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        unlink(made[i]);
    rmdir(folder);
    return guest_passed("devices, FIFOs, directories and large files are refused with a message");
}
