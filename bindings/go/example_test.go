//go:build cgo && (unix || windows)

package greenapi_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

// The address is shown in the partner's console; the token is a secret.
func Example() {
	err := greenapi.DeleteInstance(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"), 1101000001)
	switch {
	case err == nil:
		fmt.Println("deleted")
	case errors.Is(err, greenapi.ErrNotFound):
		fmt.Println("there is no such instance, or no longer")
	case errors.Is(err, greenapi.ErrOutcomeUnknown):
		fmt.Println("perhaps deleted, so call again:", err)
	default:
		fmt.Println("not deleted:", err)
	}
	// Output: deleted
}

func ExampleDeleteInstance() {
	err := greenapi.DeleteInstance(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"), 42)
	fmt.Println(errors.Is(err, greenapi.ErrNotFound))
	// Output: true
}

// An instance whose device is still logged in stays on somebody's phone when it is deleted, so
// the device is logged out first.
func ExampleWithSession() {
	client, err := greenapi.NewClient(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"),
		greenapi.WithSession(greenapi.SessionLogOut))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // Always nil.

	result, err := client.DeleteInstance(context.Background(), 1101000002)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.ID, result.Effect())
	// Output: 1101000002 deleted
}

func ExampleClient_DeleteInstance() {
	client, err := greenapi.NewClient(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // Always nil.

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	result, err := client.DeleteInstance(ctx, 1101000003)
	fmt.Println(result.Status, err)
	// Output: GREENAPI_STATUS_OK <nil>
}

// The ids may be many: they are taken from the sequence as they are needed.
func ExampleClient_DeleteInstances() {
	client, err := greenapi.NewClient(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"),
		greenapi.WithRequestsPerSecond(50))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // Always nil.

	var again []int64
	ids := []int64{1101000001, 1101000002, 42}
	for result := range client.DeleteInstances(context.Background(), slices.Values(ids)) {
		switch result.Effect() {
		case greenapi.EffectDeleted:
			fmt.Println(result.ID, "is gone")
		case greenapi.EffectNotDeleted:
			fmt.Println(result.ID, "was not deleted:", result.Status)
		case greenapi.EffectUnknown:
			again = append(again, result.ID)
		}
	}
	fmt.Println("to call again:", again)
	// Unordered output:
	// 1101000001 is gone
	// 1101000002 is gone
	// 42 was not deleted: GREENAPI_STATUS_NOT_FOUND
	// to call again: []
}

// Deletions under way when the loop is left have results too.
func ExampleClient_Deletions() {
	client, err := greenapi.NewClient(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"),
		greenapi.WithMaxInFlight(1))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // Always nil.

	run := client.Deletions(context.Background(), slices.Values([]int64{1101000001, 42}))
	for result := range run.Results() {
		fmt.Println(result.ID, result.Effect())
		break
	}
	for _, result := range run.Stop() {
		log.Print(result.ID, " ", result.Effect()) // unknown, if its request had been sent
	}
	// Output:
	// 1101000001 deleted
}

// Lists the account's instances.
func ExampleClient_Instances() {
	client, err := greenapi.NewClient(os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // Always nil.

	for instance, err := range client.Instances(context.Background(), greenapi.WithStates()) {
		if err != nil {
			log.Fatal(err) // the list broke off
		}
		if instance.State == greenapi.StateNotAuthorized && !instance.Deleted {
			fmt.Println(instance.ID, "is logged out")
			break
		}
	}
	// Output: 1101000002 is logged out
}

func ExampleError() {
	err := greenapi.DeleteInstance(os.Getenv("GREENAPI_URL"), "gac.wrong", 1101000011)
	var e *greenapi.Error
	if errors.As(err, &e) {
		fmt.Println(e.Status, e.Code, e.Effect())
	}
	// Output: GREENAPI_STATUS_UNAUTHORIZED 401 not deleted
}
