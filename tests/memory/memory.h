/*
 * Shared by the programs of this directory, which run out of memory.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include "../guest/guest.h"

#include <dlfcn.h>

/* A function of shortage.c. */
static inline void *shortage_function(const char *name)
{
    void *function = dlsym(RTLD_DEFAULT, name);
    guest_check(function != NULL, "shortage.so is not preloaded");
    return function;
}

/* Checks that a result has a terminated message. */
static inline void look_at(const greenapi_result *result)
{
    guest_check(memchr(result->message, '\0', sizeof result->message) != NULL &&
                    result->message[0] != '\0',
                "a result without a message: status %d", (int)result->status);
}

#endif
