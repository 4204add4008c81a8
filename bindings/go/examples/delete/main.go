// Command delete deletes one instance with one call, and says what is certain about it.
//
//	GREENAPI_URL=https://api.green-api.com GREENAPI_TOKEN=… go run . 1101000001
//
// Exit status: 0 the instance is gone, 1 it was not deleted, 3 it may be gone (running again is
// safe, and shows which), 2 wrong usage.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: GREENAPI_URL=... GREENAPI_TOKEN=... delete ID")
		os.Exit(2)
	}
	id, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	err = greenapi.DeleteInstance(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"), id)
	switch {
	case err == nil:
		fmt.Printf("%d: deleted\n", id)
	case errors.Is(err, greenapi.ErrOutcomeUnknown):
		fmt.Printf("%d: %v\n", id, err)
		os.Exit(3)
	default:
		fmt.Printf("%d: %v\n", id, err)
		os.Exit(1)
	}
}
