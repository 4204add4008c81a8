/*
 * Deletes an instance with the installed library, and again in a forked child, where the instance
 * must be gone. Prints the versions of the header and the library.
 *
 * The child checks that fork works: the library prepares for it before main, by a section that a
 * linker may silently drop from a static library. Windows has no fork.
 */
#include <greenapi.h>
#include <stdio.h>
#include <stdlib.h>
#ifndef _WIN32
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

/* Prints the status if it is not the wanted one. */
static int delete_instance(int64_t id, greenapi_status wanted)
{
    greenapi_options options;
    greenapi_client *client = NULL;
    greenapi_result result;
    greenapi_status status;

    greenapi_options_init(&options, sizeof options);
    options.ca_file = getenv("GREENAPI_CA_FILE");
    status = greenapi_client_new(getenv("GREENAPI_URL"), getenv("GREENAPI_TOKEN"), &options,
                                 &client, &result);
    if (status == GREENAPI_STATUS_OK)
        status = greenapi_client_delete_instance(client, id, &result);
    greenapi_client_free(client);
    if (status == wanted)
        return 0;
    fprintf(stderr, "%s: %s\n", greenapi_status_name(status), result.message);
    return 1;
}

int main(int argc, char **argv)
{
    int64_t id;

    if (argc != 2)
        return 2;
    id = strtoll(argv[1], NULL, 10);

    printf("header %d.%d.%d library %s\n", GREENAPI_VERSION_MAJOR, GREENAPI_VERSION_MINOR,
           GREENAPI_VERSION_PATCH, greenapi_version());
    fflush(stdout);

    if (delete_instance(id, GREENAPI_STATUS_OK) != 0)
        return 1;
#ifdef _WIN32
    return delete_instance(id, GREENAPI_STATUS_NOT_FOUND);
#else
    int ended;
    const pid_t child = fork();
    if (child == 0)
        _exit(delete_instance(id, GREENAPI_STATUS_NOT_FOUND));
    if (child < 0 || waitpid(child, &ended, 0) != child)
        return 1;
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : 1;
#endif
}
