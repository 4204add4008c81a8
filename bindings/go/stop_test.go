//go:build cgo && unix

package greenapi_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

// Ways to leave a loop half-way. Each runs the loop until the stand-in holds as many requests as
// may be in flight, and returns what the loop saw and what Stop returned.
var waysToStop = map[string]func(run *greenapi.Deletions, held func()) (seen, rest []greenapi.Result){
	"break": func(run *greenapi.Deletions, held func()) (seen, rest []greenapi.Result) {
		for result := range run.Results() {
			seen = append(seen, result)
			held()
			break
		}
		return seen, run.Stop()
	},
	"Stop in the loop": func(run *greenapi.Deletions, held func()) (seen, rest []greenapi.Result) {
		for result := range run.Results() {
			seen = append(seen, result)
			held()
			rest = run.Stop()
		}
		return seen, rest
	},
	"panic": func(run *greenapi.Deletions, held func()) (seen, rest []greenapi.Result) {
		defer func() {
			_ = recover()
			rest = run.Stop()
		}()
		for result := range run.Results() {
			seen = append(seen, result)
			held()
			panic("stop")
		}
		return seen, nil
	},
}

func TestStoppingHalfWayLosesNothing(t *testing.T) {
	const inFlight = 4
	for name, stop := range waysToStop {
		t.Run(name, func(t *testing.T) {
			s := newStandin(t)
			s.instances(t, 1, 1000)
			// The first is answered, and all after it are held.
			s.fault(t, fields{"body": `{"deleteInstanceAccount": true}`}, fields{"id": 1})
			s.fault(t, fields{"hold": true})
			c := s.client(t, greenapi.WithMaxInFlight(inFlight))
			var taken atomic.Int64
			run := c.Deletions(context.Background(), endless(1, &taken))
			if taken.Load() != 0 {
				t.Errorf("%d ids were taken before the loop", taken.Load())
			}
			seen, rest := stop(run, func() { s.wait(t, "held=4") })

			var ids []int64
			fates := map[greenapi.Status]int{}
			for _, result := range slices.Concat(seen, rest) {
				ids = append(ids, result.ID)
				fates[result.Status]++
			}
			slices.Sort(ids)
			if want := slices.Collect(idRange(1, int(taken.Load()))); !slices.Equal(ids, want) {
				t.Errorf("results of %v, %d ids were taken", ids, taken.Load())
			}
			if len(seen) != 1 || seen[0].ID != 1 {
				t.Errorf("the loop saw %v", seen)
			}
			// Those that were held, and nothing else, may have been deleted.
			if fates[greenapi.StatusCancelledInFlight] != inFlight || fates[greenapi.StatusOK] != 1 ||
				fates[greenapi.StatusCancelled] != len(ids)-1-inFlight || fates[greenapi.StatusCancelled] == 0 {
				t.Errorf("%d ids ended in %v", len(ids), fates)
			}
			if again := run.Stop(); len(again) != 0 {
				t.Errorf("stopping again returns %v", again)
			}
			for result := range run.Results() {
				t.Errorf("a second loop gets %+v", result)
			}
			if _, err := c.DeleteInstance(context.Background(), 1); err != nil {
				t.Errorf("the client afterwards: %v", err)
			}
		})
	}
}

// To cancel the context is to stop, too, and the loop itself gets the rest.
func TestCancellingGivesTheLoopTheRest(t *testing.T) {
	s := newStandin(t)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	run := s.client(t).Deletions(ctx, oneHeld(t, s))
	got := map[int64]greenapi.Result{}
	for result := range run.Results() {
		got[result.ID] = result
		cancel(cause)
	}
	if rest := run.Stop(); len(rest) != 0 {
		t.Errorf("Stop returned %v", rest)
	}
	if err := got[2].Err(); len(got) != 2 || got[1].Err() != nil || !errors.Is(err, cause) || !errors.Is(err, greenapi.ErrOutcomeUnknown) {
		t.Errorf("got %+v", got)
	}
}

func TestStoppingBeforeTheLoopStartsNothing(t *testing.T) {
	s := newStandin(t)
	var taken atomic.Int64
	run := s.client(t).Deletions(context.Background(), endless(1, &taken))
	if rest := run.Stop(); len(rest) != 0 {
		t.Errorf("Stop returned %v", rest)
	}
	for result := range run.Results() {
		t.Errorf("got %+v", result)
	}
	if taken.Load() != 0 {
		t.Errorf("%d ids were taken", taken.Load())
	}
}
