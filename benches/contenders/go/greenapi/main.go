// greenapi from Go: warm, bulk (a goroutine per call), bulk-iterator (DeleteInstances), truth.
// As the documentation shows: one client for the program; the error is nil if the instance is gone,
// and otherwise its effect says whether the instance may have been deleted.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/greenapi/greenapi/benches/measure"
	greenapi "github.com/greenapi/greenapi/bindings/go"
)

func main() {
	plan := measure.Arguments()
	options := []greenapi.Option{greenapi.WithMaxInFlight(plan.Concurrency)}
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		options = append(options, greenapi.WithCAFile(file))
	}
	client, err := greenapi.NewClient(plan.URL, plan.Token, options...)
	measure.Fail(err)
	defer client.Close() //nolint:errcheck // Always nil.

	ctx := context.Background()
	call := func(id int64) bool {
		_, err := client.DeleteInstance(ctx, id)
		return err == nil
	}
	switch plan.Way {
	case "warm":
		plan.Warm(call)
	case "bulk":
		plan.Bulk(call)
	case "bulk-iterator":
		plan.Whole(func() (failed int64) {
			ids := func(yield func(int64) bool) {
				for i := range int64(plan.Calls) {
					if !yield(plan.FirstID + i) {
						return
					}
				}
			}
			for result := range client.DeleteInstances(ctx, ids) {
				if result.Err() != nil {
					failed++
				}
			}
			return failed
		})
	case "truth":
		words := map[greenapi.Effect]string{
			greenapi.EffectDeleted:    "deleted",
			greenapi.EffectNotDeleted: "failed",
			greenapi.EffectUnknown:    "unknown",
		}
		for i := range int64(plan.Calls) {
			result, _ := client.DeleteInstance(ctx, plan.FirstID+i)
			word := words[result.Effect()]
			measure.Word(plan.FirstID+i, word, word, result.Message)
		}
	default:
		measure.Fail(fmt.Errorf("no way %q in this program", plan.Way))
	}
}
