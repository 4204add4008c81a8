/*
 * Becomes libffi.so.8 for the Python of packaging/musl-python.txt. It is linked with cffi's module,
 * which contains libffi and exports all of it, but ffi_call under another name.
 */
#include <errno.h>

void cffistatic_ffi_call(void *cif, void (*function)(void), void *result, void **values);

void ffi_call(void *cif, void (*function)(void), void *result, void **values)
{
    cffistatic_ffi_call(cif, function, result, values);
}

/* This Python refers to them, but musl has them only since 1.2.5. */
long preadv2(void)
{
    errno = ENOSYS;
    return -1;
}

long pwritev2(void)
{
    errno = ENOSYS;
    return -1;
}
