// When the library runs out of memory the Go package returns an ordinary error. Prints the ids that
// were reported as deleted. Only the library's own allocations fail, and the package's large ones, of
// which there should be none: failing allocations of the threads of Go's runtime end the process.
package main

/*
#cgo pkg-config: greenapi
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>

#include <greenapi.h>

static void only_in(void *function, size_t from)
{
    ((void (*)(void *))dlsym(RTLD_DEFAULT, "shortage_only_in"))(function);
    ((void (*)(size_t))dlsym(RTLD_DEFAULT, "shortage_from"))(from);
}
static void only_large_in_this_program(size_t from) { only_in((void *)only_in, from); }
static void only_in_library(void) { only_in((void *)greenapi_version, 0); }
static void begin(long number)
{
    ((void (*)(long, bool))dlsym(RTLD_DEFAULT, "shortage_begin"))(number, true);
}
static long end(void)
{
    return ((long (*)(void))dlsym(RTLD_DEFAULT, "shortage_end"))();
}
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/greenapi/greenapi/bindings/go"
)

func main() {
	client, err := greenapi.NewClient(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	const large = 4_000 // the longest token has 4096 bytes
	C.only_large_in_this_program(large)
	C.begin(1)
	other, err := greenapi.NewClient(os.Getenv("GREENAPI_URL"), strings.Repeat("x", large))
	C.end()
	if err != nil {
		log.Fatal(err)
	}
	other.Close()
	C.only_in_library()
	id, refused := int64(5_000_000_000), 0
	call := func() error {
		_, err := client.DeleteInstance(context.Background(), id)
		if err == nil {
			fmt.Println(id)
		}
		id++
		return err
	}
	for number := C.long(1); number <= 10; number++ {
		C.begin(number)
		err := call()
		C.end()
		if errors.Is(err, greenapi.ErrOutOfResources) {
			refused++
		} else if err != nil {
			log.Fatal(err)
		}
		if err := call(); err != nil {
			log.Fatal("with memory back: ", err)
		}
	}
	if refused == 0 {
		log.Fatal("nothing was refused")
	}
}
