/*
 * After everything that used a token is freed, no piece of the token is left in the memory of the
 * process: not in freed memory, not in the buffers of idle connections, and not on the stacks of
 * the library's threads.
 */
#include "guest.h"

enum { LENGTH = 48, PIECE = 8, BLOCK = 1 << 16 };

/* The token is stored masked, so that this program does not find its own copy. */
static unsigned char masked[LENGTH];
static const unsigned char mask = 0xa5;

static void make_token(void)
{
    static const char letters[] = "bcdfghjkmnpqrstvwxyzBCDFGHJKMNPQRSTVWXYZ23456789";
    FILE *random = fopen("/dev/urandom", "rb");
    guest_check(random != NULL && fread(masked, 1, LENGTH, random) == LENGTH,
                "/dev/urandom cannot be read");
    fclose(random);
    for (int i = 0; i < LENGTH; i++)
        masked[i] = (unsigned char)letters[masked[i] % (sizeof letters - 1)] ^ mask;
}

static void unmask(char *token)
{
    for (int i = 0; i < LENGTH; i++)
        token[i] = (char)(masked[i] ^ mask);
    token[LENGTH] = '\0';
}

static void wipe(void *place, size_t size)
{
    memset(place, 0, size);
    __asm__ volatile("" : : "r"(place) : "memory");
}

/* Finds the first memory region that holds a piece of the token, except the stack of this thread.
 */
static bool find(char *region, size_t size)
{
    char token[LENGTH + 1], line[256];
    static int memory = -1;
    if (memory < 0)
        memory = open("/proc/self/mem", O_RDONLY);
    guest_check(memory >= 0, "/proc/self/mem cannot be opened");
    /* This block is on this thread's stack, which is not searched. */
    char block[BLOCK + PIECE];
    bool found = false;
    unmask(token);
    FILE *maps = fopen("/proc/self/maps", "r");
    guest_check(maps != NULL, "/proc/self/maps cannot be opened");
    while (!found && fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        char rights[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, rights) != 3 || strncmp(rights, "rw", 2) != 0 ||
            strstr(line, "[stack]") != NULL)
            continue;
        for (unsigned long at = from; at < to && !found; at += BLOCK) {
            size_t wanted = to - at < sizeof block ? to - at : sizeof block;
            ssize_t got = pread(memory, block, wanted, (off_t)at);
            for (ssize_t i = 0; i + PIECE <= got && !found; i++)
                for (int piece = 0; piece + PIECE <= LENGTH && !found; piece++)
                    found =
                        block[i] == token[piece] && memcmp(block + i, token + piece, PIECE) == 0;
        }
        if (found)
            snprintf(region, size, "%s", line);
    }
    fclose(maps);
    wipe(token, sizeof token);
    wipe(block, sizeof block);
    return found;
}

/* Searches again for a while, because the library's thread may still be freeing memory. */
static void check_gone(const char *after)
{
    char region[256];
    for (int i = 0; i < 100; i++) {
        if (!find(region, sizeof region))
            return;
        usleep(50000);
    }
    guest_fail("a piece of the token is left after %s, in %s", after, region);
}

static greenapi_client *client_of(const char *url, uint32_t session)
{
    char token[LENGTH + 1];
    greenapi_options options;
    greenapi_client *client;
    greenapi_result error;
    greenapi_options_init(&options, sizeof options);
    options.ca_file = guest_env("GREENAPI_CA_FILE");
    options.session = session;
    options.max_retries = 0;
    unmask(token);
    guest_check(greenapi_client_new(url, token, &options, &client, &error) == GREENAPI_STATUS_OK,
                "no client: %s", error.message);
    wipe(token, sizeof token);
    return client;
}

int main(void)
{
    static const struct {
        const char *what, *endpoint;
    } ways[] = {{"plain HTTP", "http"}, {"HTTP/1.1 over TLS", "https_h1"}, {"HTTP/2", "https"}};
    char url[512], after[128], token[LENGTH + 1];
    guest_begin(120);
    make_token();
    check_gone("nothing at all");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        snprintf(url, sizeof url, "%s", guest_endpoint(ways[i].endpoint));
        for (uint32_t session = GREENAPI_SESSION_IGNORE; session <= GREENAPI_SESSION_LOG_OUT;
             session += 2) {
            greenapi_client *client = client_of(url, session);
            greenapi_queue *queue = guest_queue();
            greenapi_result result;
            greenapi_client_delete_instance(client, GUEST_ID, &result);
            guest_check(result.status == GREENAPI_STATUS_UNAUTHORIZED, "%s", result.message);
            greenapi_queue_submit(queue, client, GUEST_ID, 1);
            guest_check(greenapi_queue_take(queue, &result, 1, -1) == 1, "no result");
            /* This deletion is cancelled while it is under way. */
            greenapi_queue_submit(queue, client, GUEST_ID, 2);
            greenapi_client_free(client);
            greenapi_queue_free(queue);
            snprintf(after, sizeof after, "%s%s", ways[i].what,
                     session == GREENAPI_SESSION_IGNORE ? "" : " and a session policy");
            check_gone(after);
        }
    }
    /* greenapi_delete_instance keeps its last client until a call with another token replaces it.
     */
    unmask(token);
    greenapi_delete_instance(guest_url(), token, GUEST_ID, NULL);
    wipe(token, sizeof token);
    guest_one_call();
    check_gone("the one call with another token");
    return guest_passed("no piece of %d bytes of a token is left", PIECE);
}
