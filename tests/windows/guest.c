/*
 * Tests what differs on Windows: the queue's socket under WSAPoll and select, the journal's lock
 * between processes, that the library stays loaded, and its version resource.
 *
 *   guest.exe           runs all tests; GREENAPI_URL and GREENAPI_TOKEN as for the driver
 *   guest.exe journal   the other process: tries to open the journal and prints the result
 */
#include <winsock2.h>

#include <windows.h>

#include <greenapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT 50
#define JOURNAL "guest.journal"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "guest.c:%d: %s\n", __LINE__, #condition);                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static greenapi_status make(const char *journal, greenapi_client **client, greenapi_result *failure)
{
    greenapi_options options;
    greenapi_options_init(&options, sizeof options);
    options.journal = journal;
    return greenapi_client_new(getenv("GREENAPI_URL"), getenv("GREENAPI_TOKEN"), &options, client,
                               failure);
}

static int is_readable(SOCKET socket, int timeout_ms)
{
    WSAPOLLFD polled = {.fd = socket, .events = POLLRDNORM};
    int ready = WSAPoll(&polled, 1, timeout_ms);
    CHECK(ready >= 0);
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(socket, &readable);
    struct timeval none = {0, 0};
    CHECK(select(0, &readable, NULL, NULL, &none) == ready);
    return ready;
}

static void queue(void)
{
    greenapi_client *client;
    greenapi_queue *queue;
    greenapi_result failure, results[8];
    CHECK(make(NULL, &client, &failure) == GREENAPI_STATUS_OK);
    CHECK(greenapi_queue_new(&queue) == GREENAPI_STATUS_OK);
    CHECK(greenapi_queue_fd(NULL) == (greenapi_fd)-1);
    SOCKET socket = greenapi_queue_fd(queue);
    CHECK(socket != INVALID_SOCKET);
    DWORD flags;
    CHECK(GetHandleInformation((HANDLE)socket, &flags) && (flags & HANDLE_FLAG_INHERIT) == 0);
    CHECK(!is_readable(socket, 0));
    for (uint64_t tag = 0; tag < COUNT; tag++)
        CHECK(greenapi_queue_submit(queue, client, 1101000001 + (int64_t)tag, tag) ==
              GREENAPI_STATUS_OK);
    for (size_t taken = 0; taken < COUNT;) {
        CHECK(is_readable(socket, 30000));
        size_t some = greenapi_queue_take(queue, results, 8, 0);
        CHECK(some > 0);
        for (size_t i = 0; i < some; i++)
            CHECK(greenapi_status_effect(results[i].status) == GREENAPI_EFFECT_DELETED ||
                  results[i].status == GREENAPI_STATUS_NOT_FOUND);
        taken += some;
    }
    CHECK(!is_readable(socket, 0));
    greenapi_queue_free(queue);
    greenapi_client_free(client);
}

static void other_process(char *program, const char *expected)
{
    char command[512], said[300] = "";
    snprintf(command, sizeof command, "\"%s\" journal", program);
    FILE *other = _popen(command, "r");
    CHECK(other != NULL);
    CHECK(fgets(said, sizeof said, other) != NULL);
    _pclose(other);
    if (strstr(said, expected) == NULL) {
        fprintf(stderr, "the other process said: %s", said);
        exit(1);
    }
}

static void journal(char *program)
{
    greenapi_client *client;
    greenapi_result result;
    remove(JOURNAL);
    CHECK(make(JOURNAL, &client, &result) == GREENAPI_STATUS_OK);
    greenapi_client_delete_instance(client, 1101000001, &result);
    CHECK(result.status == GREENAPI_STATUS_OK || result.status == GREENAPI_STATUS_NOT_FOUND);

    other_process(program, "another process holds");
    /* While the journal is held, others can read but not remove the file. */
    FILE *reader = fopen(JOURNAL, "r");
    CHECK(reader != NULL);
    char line[300];
    size_t lines = 0;
    while (fgets(line, sizeof line, reader) != NULL)
        lines++;
    CHECK(lines >= 2);
    fclose(reader);
    CHECK(remove(JOURNAL) != 0);
    greenapi_client_free(client);
    /* The lock is released a moment after the client is freed. */
    other_process(program, "opened");

    /* An incomplete last line is cut off. */
    FILE *writer = fopen(JOURNAL, "ab");
    CHECK(writer != NULL && fputs("2026-11-25T02:3", writer) >= 0 && fclose(writer) == 0);
    other_process(program, "opened");
    other_process(program, "opened");

    CHECK(make("NUL", &client, &result) == GREENAPI_STATUS_INVALID_ARGUMENT);
    CHECK(strstr(result.message, "a device") != NULL);
    CHECK(make(".", &client, &result) == GREENAPI_STATUS_INVALID_ARGUMENT);
    CHECK(strstr(result.message, "a directory") != NULL);
}

static void refused(void)
{
    greenapi_client *client;
    greenapi_result result;
    /* No program listens on port 1. */
    CHECK(greenapi_client_new("http://127.0.0.1:1", "gac.none", NULL, &client, &result) ==
          GREENAPI_STATUS_OK);
    greenapi_client_delete_instance(client, 1101000001, &result);
    CHECK(result.status == GREENAPI_STATUS_CONNECT_FAILED);
    CHECK(strstr(result.message, "connection refused") != NULL);
    greenapi_client_free(client);
}

static void stays_loaded(void)
{
    HMODULE library = GetModuleHandleA("greenapi.dll");
    CHECK(library != NULL);
    for (int i = 0; i < 5; i++)
        FreeLibrary(library);
    CHECK(GetModuleHandleA("greenapi.dll") == library);
    CHECK(strcmp(greenapi_version(), "") != 0);
}

/* The version resource of the DLL that is loaded, as Windows' own dialogs read it. */
static void version(void)
{
    char path[MAX_PATH], data[4096], name[64];
    CHECK(GetModuleFileNameA(GetModuleHandleA("greenapi.dll"), path, sizeof path) != 0);
    CHECK(GetFileVersionInfoA(path, 0, sizeof data, data));
    VS_FIXEDFILEINFO *fixed;
    UINT length;
    CHECK(VerQueryValueA(data, "\\", (void **)&fixed, &length));
    DWORD high = GREENAPI_VERSION_MAJOR << 16 | GREENAPI_VERSION_MINOR;
    DWORD low = GREENAPI_VERSION_PATCH << 16;
    CHECK(fixed->dwFileVersionMS == high && fixed->dwFileVersionLS == low);
    CHECK(fixed->dwProductVersionMS == high && fixed->dwProductVersionLS == low);
    CHECK(fixed->dwFileType == VFT_DLL);
    const struct {
        const char *name, *text;
    } strings[] = {{"FileVersion", greenapi_version()},
                   {"ProductVersion", greenapi_version()},
                   {"OriginalFilename", "greenapi.dll"}};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        char *text;
        snprintf(name, sizeof name, "\\StringFileInfo\\040904B0\\%s", strings[i].name);
        CHECK(VerQueryValueA(data, name, (void **)&text, &length));
        CHECK(strcmp(text, strings[i].text) == 0);
    }
}

int main(int argc, char **argv)
{
    WSADATA winsock;
    CHECK(WSAStartup(MAKEWORD(2, 2), &winsock) == 0);
    if (argc == 2 && strcmp(argv[1], "journal") == 0) {
        greenapi_client *client;
        greenapi_result failure;
        if (make(JOURNAL, &client, &failure) == GREENAPI_STATUS_OK)
            puts("opened");
        else
            puts(failure.message);
        greenapi_client_free(client);
        return 0;
    }
    queue();
    refused();
    journal(argv[0]);
    stays_loaded();
    version();
    puts("everything passed");
    return 0;
}
