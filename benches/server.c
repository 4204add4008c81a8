/*
 * The loopback server of the sections about speed. It does as little work per request as possible,
 * so that the figures show the cost of the clients. It answers every complete request over HTTP/1.1
 * keep-alive with the API's "deleted". The other sections use the stand-in in tests/standin.
 *
 *   server [--hold N]
 *
 * Prints its port and serves until its standard input is closed. With --hold it waits until N
 * requests are complete before it answers them, and again for the next N.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char ANSWER[] = "HTTP/1.1 200 OK\r\n"
                             "Content-Type: application/json\r\n"
                             "Content-Length: 30\r\n"
                             "\r\n"
                             "{\"deleteInstanceAccount\":true}";

enum {
    ANSWER_LENGTH = sizeof ANSWER - 1,
    EVENTS = 256,
    READ_AT_ONCE = 64 * 1024,
    REQUEST_LIMIT = 16 * 1024
};

struct connection {
    int fd;
    char *partial; /* the beginning of an incomplete request, or NULL */
    size_t partial_length;
    struct connection *next_held;
    unsigned held; /* requests that wait for their answer */
    bool gone;     /* the client closed the connection while it was in the list of held ones */
};

static int epoll_fd;
static unsigned long hold, held;
static struct connection *held_connections;
static char buffer[REQUEST_LIMIT + READ_AT_ONCE];

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("server: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* The length of the request at the start of `bytes`, or 0 while the request is incomplete. */
static size_t request_length(const char *bytes, size_t length)
{
    const char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    size_t head = (size_t)(end - bytes) + 4, body = 0;
    for (const char *line = bytes; line < end;) {
        static const char NAME[] = "Content-Length:";
        if (strncasecmp(line, NAME, sizeof NAME - 1) == 0)
            body = strtoul(line + sizeof NAME - 1, NULL, 10);
        line = (const char *)memchr(line, '\n', (size_t)(end + 2 - line)) + 1;
    }
    return head + body <= length ? head + body : 0;
}

static void close_connection(struct connection *connection)
{
    close(connection->fd);
    free(connection->partial);
    connection->partial = NULL;
    if (connection->held > 0)
        connection->gone = true;
    else
        free(connection);
}

/* An answer fits into the buffer of a socket whose client reads; one that does not read is broken.
 */
static bool answer(struct connection *connection, unsigned count)
{
    enum { BATCH = 64 };
    static char answers[BATCH * ANSWER_LENGTH];
    if (answers[0] == '\0')
        for (size_t i = 0; i < BATCH; i++)
            memcpy(answers + i * ANSWER_LENGTH, ANSWER, ANSWER_LENGTH);
    while (count > 0) {
        unsigned now = count < BATCH ? count : BATCH;
        size_t length = now * (size_t)ANSWER_LENGTH;
        if (send(connection->fd, answers, length, MSG_NOSIGNAL) != (ssize_t)length)
            return false;
        count -= now;
    }
    return true;
}

static void release(void)
{
    while (held_connections != NULL) {
        struct connection *connection = held_connections;
        unsigned count = connection->held;
        held_connections = connection->next_held;
        connection->held = 0;
        if (connection->gone)
            free(connection);
        else if (!answer(connection, count))
            /* Not closed here, because the current batch of events may contain this connection. */
            shutdown(connection->fd, SHUT_RDWR);
    }
    held = 0;
}

static void keep_partial(struct connection *connection, const char *bytes, size_t length)
{
    connection->partial_length = length;
    if (length == 0)
        return;
    connection->partial = malloc(length);
    if (connection->partial == NULL)
        die("out of memory");
    memcpy(connection->partial, bytes, length);
}

static void readable(struct connection *connection)
{
    size_t length = connection->partial_length;
    if (length > 0) {
        memcpy(buffer, connection->partial, length);
        free(connection->partial);
        connection->partial = NULL;
        connection->partial_length = 0;
    }
    ssize_t got = recv(connection->fd, buffer + length, READ_AT_ONCE, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        keep_partial(connection, buffer, length);
        return;
    }
    if (got <= 0) {
        close_connection(connection);
        return;
    }
    length += (size_t)got;

    unsigned complete = 0;
    size_t consumed = 0, next;
    while ((next = request_length(buffer + consumed, length - consumed)) > 0) {
        consumed += next;
        complete++;
    }
    if (length - consumed > REQUEST_LIMIT) {
        close_connection(connection);
        return;
    }
    keep_partial(connection, buffer + consumed, length - consumed);
    if (complete == 0)
        return;
    if (hold == 0) {
        if (!answer(connection, complete))
            close_connection(connection);
        return;
    }
    if (connection->held == 0) {
        connection->next_held = held_connections;
        held_connections = connection;
    }
    connection->held += complete;
    held += complete;
    if (held >= hold)
        release();
}

static void watch(int fd, void *data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL)
            die("out of memory");
        connection->fd = fd;
        watch(fd, connection);
    }
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        die("accept: %s (the limit of open files must exceed the connections: ulimit -n)",
            strerror(errno));
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--hold") == 0)
        hold = strtoul(argv[2], NULL, 10);
    if (argc != 1 && hold == 0)
        die("usage: server [--hold N]");

    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 ||
        listen(listener, 65535) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        die("cannot listen on loopback: %s", strerror(errno));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    static char the_listener, the_input;
    watch(listener, &the_listener);
    watch(STDIN_FILENO, &the_input);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &the_listener)
                accept_all(listener);
            else if (events[i].data.ptr == &the_input)
                return 0;
            else
                readable(events[i].data.ptr);
        }
    }
}
