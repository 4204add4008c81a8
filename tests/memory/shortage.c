/*
 * An allocator that refuses, to be preloaded (LD_PRELOAD): everything that a process asks of malloc
 * and its like goes through here, whoever asks. Nothing is refused until one of the functions
 * below says what; they are found by dlsym().
 */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

static atomic_bool armed;
static atomic_bool all_that_follow;
static atomic_long first_refused;
static atomic_long seen;
static atomic_long refused;

static atomic_long live; /* bytes */
static atomic_long limit;

/* Refuses the allocation of that number from now on, beginning with 1; with `all`, also all that
 * follow. */
void shortage_begin(long number, bool all)
{
    seen = 0;
    refused = 0;
    first_refused = number;
    all_that_follow = all;
    armed = true;
}

/* Refuses nothing any more. Returns how many allocations there were. */
long shortage_end(void)
{
    armed = false;
    return seen;
}

/* Refuses what would make more than so many bytes live; 0 = no limit. Returns how many are. */
long shortage_limit(long bytes)
{
    limit = bytes;
    return live;
}

/* How many allocations were refused since shortage_begin or the first limit. */
long shortage_refused(void)
{
    return refused;
}

static bool refuse(size_t size)
{
    long most = limit;
    bool no = most > 0 && live + (long)size > most;
    if (armed) {
        long number = ++seen;
        no |= all_that_follow ? number >= first_refused : number == first_refused;
    }
    if (no) {
        refused++;
        errno = ENOMEM;
    }
    return no;
}

static void *given(void *block)
{
    if (block != NULL)
        live += (long)malloc_usable_size(block);
    return block;
}

void *malloc(size_t size)
{
    return refuse(size) ? NULL : given(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return refuse(count * size) ? NULL : given(__libc_calloc(count, size));
}

void *realloc(void *block, size_t size)
{
    if (refuse(size))
        return NULL;
    long before = block == NULL ? 0 : (long)malloc_usable_size(block);
    void *moved = __libc_realloc(block, size);
    if (moved != NULL || size == 0)
        live -= before;
    return given(moved);
}

void *memalign(size_t alignment, size_t size)
{
    return refuse(size) ? NULL : given(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    void *made = memalign(alignment, size);
    if (made == NULL)
        return ENOMEM;
    *block = made;
    return 0;
}

void free(void *block)
{
    if (block == NULL)
        return;
    live -= (long)malloc_usable_size(block);
    __libc_free(block);
}
