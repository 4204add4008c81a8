/*
 * A preloaded library (LD_PRELOAD) that replaces malloc and its relatives for the whole process and
 * makes chosen allocations fail. By default none fails; a test finds the functions below by dlsym()
 * and chooses.
 */
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* Makes the allocation with this number fail, counted from now on and from 1; with `all`, also all
 * later ones. */
void shortage_begin(long number, bool all)
{
    seen = 0;
    refused = 0;
    first_refused = number;
    all_that_follow = all;
    armed = true;
}

/* The machine code whose allocations are counted and fail; by default all code. */
static atomic_uintptr_t code_begins;
static atomic_uintptr_t code_ends = UINTPTR_MAX;

static int find_code(struct dl_phdr_info *object, size_t size, void *inside)
{
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        uintptr_t begins = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr;
        uintptr_t ends = begins + object->dlpi_phdr[i].p_memsz;
        if (object->dlpi_phdr[i].p_type == PT_LOAD && begins <= (uintptr_t)inside &&
            (uintptr_t)inside < ends) {
            code_begins = begins;
            code_ends = ends;
            return 1;
        }
    }
    return 0;
}

/* From now on counts and refuses only the allocations of one shared object, the one that contains
 * this function. */
void shortage_only_in(void *function)
{
    dl_iterate_phdr(find_code, function);
}

/* Only allocations of at least so many bytes are counted and fail. */
static atomic_size_t smallest;

void shortage_from(size_t size)
{
    smallest = size;
}

/* Ends the shortage. Returns how many allocations there were. */
long shortage_end(void)
{
    armed = false;
    return seen;
}

/* Refuses allocations that would exceed this number of live bytes; 0 = no limit. Returns the number
 * of live bytes. */
long shortage_limit(long bytes)
{
    limit = bytes;
    return live;
}

/* How many allocations have failed since shortage_begin or the first limit. */
long shortage_refused(void)
{
    return refused;
}

static bool refuse(size_t size, void *caller)
{
    if ((uintptr_t)caller < code_begins || (uintptr_t)caller >= code_ends || size < smallest)
        return false;
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
    return refuse(size, __builtin_return_address(0)) ? NULL : given(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return refuse(count * size, __builtin_return_address(0)) ? NULL
                                                             : given(__libc_calloc(count, size));
}

void *realloc(void *block, size_t size)
{
    if (refuse(size, __builtin_return_address(0)))
        return NULL;
    long before = block == NULL ? 0 : (long)malloc_usable_size(block);
    void *moved = __libc_realloc(block, size);
    if (moved != NULL || size == 0)
        live -= before;
    return given(moved);
}

static void *aligned(size_t alignment, size_t size, void *caller)
{
    return refuse(size, caller) ? NULL : given(__libc_memalign(alignment, size));
}

void *memalign(size_t alignment, size_t size)
{
    return aligned(alignment, size, __builtin_return_address(0));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return aligned(alignment, size, __builtin_return_address(0));
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    void *made = aligned(alignment, size, __builtin_return_address(0));
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
