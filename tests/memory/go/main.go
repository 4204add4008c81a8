// When the library runs out of memory the Go package returns an ordinary error. Prints the ids that
// were reported as deleted. Only the library's own allocations fail: failing allocations of cgo's
// C.CString and of the threads of Go's runtime end the process.
package main

/*
#cgo pkg-config: greenapi
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>

#include <greenapi.h>

static void only_in_library(void)
{
    ((void (*)(void *))dlsym(RTLD_DEFAULT, "shortage_only_in"))((void *)greenapi_version);
}
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

	"github.com/greenapi/greenapi/bindings/go"
)

func main() {
	client, err := greenapi.NewClient(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
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
