/*
 * A preloaded library that intercepts the system calls on the one file SHIM_FILE, and ends the
 * process or makes the disk fail at a call that the test chooses. Calls of all kinds are counted
 * together, from 1.
 *
 *   SHIM_EXIT=n, SHIM_WHEN=before|half|after   ends the process by SIGKILL at the nth call; `half`
 *                                              first writes half of the data
 *   SHIM_KILL_AT=b                             ends it by SIGKILL once b bytes have been written
 *   SHIM_FAIL=kind, SHIM_FROM=n, SHIM_TO=n, SHIM_ERRNO=e
 *                                              calls n to n of a kind (write, fdatasync, fsync,
 *                                              ftruncate) fail; a write first writes half
 *   SHIM_FAIL_AFTER=text, SHIM_ERRNO=e         the sync after the first write with this text fails
 *   SHIM_SYNCED=path                           a file for the length that has been synced
 *   SHIM_COUNT=path                            a file for the number of calls
 *   SHIM_SYNCS=path                            a file for the number of syncs
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int watched = -1;
static long calls, of_kind, bytes, syncs;
static int text_written;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long number(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? 0 : strtol(text, NULL, 10);
}

static int is(const char *name, const char *value)
{
    const char *text = getenv(name);
    return text != NULL && strcmp(text, value) == 0;
}

static ssize_t (*real_write(void))(int, const void *, size_t)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (real == NULL)
        real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return real;
}

static void note(const char *variable, long value)
{
    const char *path = getenv(variable);
    if (path == NULL)
        return;
    char text[32];
    int length = snprintf(text, sizeof text, "%20ld\n", value);
    static int (*real_open)(const char *, int, ...);
    if (real_open == NULL)
        real_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    int file = real_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || pwrite(file, text, (size_t)length, 0) != length)
        abort();
    close(file);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* Counts a call. Returns whether the process must end at this one. */
static int begin(void)
{
    pthread_mutex_lock(&lock);
    note("SHIM_COUNT", ++calls);
    int last = calls == number("SHIM_EXIT");
    if (last && is("SHIM_WHEN", "before"))
        die();
    return last;
}

static void end(int last)
{
    if (last)
        die();
    pthread_mutex_unlock(&lock);
}

static int fails(const char *kind)
{
    if (!is("SHIM_FAIL", kind))
        return 0;
    of_kind++;
    if (of_kind < number("SHIM_FROM") || of_kind > number("SHIM_TO"))
        return 0;
    return 1;
}

#define REAL(result, name, ...)                                                                    \
    static result (*real)(__VA_ARGS__);                                                            \
    if (real == NULL)                                                                              \
    real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int opened(int file, const char *path)
{
    if (file >= 0 && is("SHIM_FILE", path)) {
        pthread_mutex_lock(&lock);
        watched = file;
        pthread_mutex_unlock(&lock);
        end(begin());
    }
    return file;
}

int open64(const char *path, int flags, ...)
{
    REAL(int, "open64", const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    int mode = (flags & O_CREAT) ? va_arg(rest, int) : 0;
    va_end(rest);
    return opened(real(path, flags, mode), path);
}

int open(const char *path, int flags, ...)
{
    REAL(int, "open", const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    int mode = (flags & O_CREAT) ? va_arg(rest, int) : 0;
    va_end(rest);
    return opened(real(path, flags, mode), path);
}

ssize_t write(int file, const void *data, size_t size)
{
    if (file != watched)
        return real_write()(file, data, size);
    int last = begin();
    long kill_at = number("SHIM_KILL_AT");
    if (kill_at != 0 && bytes + (long)size >= kill_at) {
        real_write()(file, data, (size_t)(kill_at - bytes));
        die();
    }
    if (last && is("SHIM_WHEN", "half")) {
        real_write()(file, data, size / 2);
        die();
    }
    const char *text = getenv("SHIM_FAIL_AFTER");
    if (text != NULL && text_written == 0)
        text_written = memmem(data, size, text, strlen(text)) != NULL;
    ssize_t done;
    if (fails("write")) {
        /* A disk that gets full first writes a part, and fails at the next write. */
        static int in_error;
        in_error = !in_error;
        done = in_error && size > 1 ? real_write()(file, data, size / 2) : -1;
        errno = (int)number("SHIM_ERRNO");
    } else {
        done = real_write()(file, data, size);
        bytes += done > 0 ? (long)done : 0;
    }
    int problem = errno;
    end(last);
    errno = problem;
    return done;
}

static int synced(int file, const char *kind, int (*real)(int))
{
    if (file != watched)
        return real(file);
    int last = begin();
    int done;
    int after_text = text_written == 1;
    if (after_text)
        text_written = 2;
    if (after_text || fails(kind)) {
        errno = (int)number("SHIM_ERRNO");
        done = -1;
    } else {
        struct stat before;
        fstat(file, &before);
        done = real(file);
        if (done == 0) {
            note("SHIM_SYNCED", (long)before.st_size);
            note("SHIM_SYNCS", ++syncs);
        }
    }
    int problem = errno;
    end(last);
    errno = problem;
    return done;
}

int fdatasync(int file)
{
    REAL(int, "fdatasync", int);
    return synced(file, "fdatasync", real);
}

int fsync(int file)
{
    REAL(int, "fsync", int);
    return synced(file, "fsync", real);
}

static int cut(int file, off_t length, int (*real)(int, off_t))
{
    if (file != watched)
        return real(file, length);
    int last = begin();
    int done = -1;
    if (fails("ftruncate"))
        errno = (int)number("SHIM_ERRNO");
    else
        done = real(file, length);
    int problem = errno;
    end(last);
    errno = problem;
    return done;
}

int ftruncate(int file, off_t length)
{
    REAL(int, "ftruncate", int, off_t);
    return cut(file, length, real);
}

int ftruncate64(int file, off_t length)
{
    REAL(int, "ftruncate64", int, off_t);
    return cut(file, length, real);
}

int flock(int file, int operation)
{
    REAL(int, "flock", int, int);
    if (file != watched)
        return real(file, operation);
    int last = begin();
    int done = real(file, operation);
    end(last);
    return done;
}

int fchmod(int file, mode_t mode)
{
    REAL(int, "fchmod", int, mode_t);
    if (file != watched)
        return real(file, mode);
    int last = begin();
    int done = real(file, mode);
    end(last);
    return done;
}

int close(int file)
{
    REAL(int, "close", int);
    if (file != watched)
        return real(file);
    int last = begin();
    watched = -1;
    int done = real(file);
    end(last);
    return done;
}
