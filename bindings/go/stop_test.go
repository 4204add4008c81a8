//go:build cgo && (unix || windows)

package greenapi_test

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"testing"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

// Ways to leave a loop at its first result. Each returns what the loop saw and what Stop returned.
var waysToStop = map[string]func(run *greenapi.Deletions) (seen, rest []greenapi.Result){
	"break": func(run *greenapi.Deletions) (seen, rest []greenapi.Result) {
		for result := range run.Results() {
			seen = append(seen, result)
			break
		}
		return seen, run.Stop()
	},
	"Stop in the loop": func(run *greenapi.Deletions) (seen, rest []greenapi.Result) {
		for result := range run.Results() {
			seen = append(seen, result)
			rest = run.Stop()
		}
		return seen, rest
	},
	"panic": func(run *greenapi.Deletions) (seen, rest []greenapi.Result) {
		defer func() {
			_ = recover()
			rest = run.Stop()
		}()
		for result := range run.Results() {
			seen = append(seen, result)
			panic("stop")
		}
		return seen, nil
	},
}

func TestStoppingHalfWayLosesNothing(t *testing.T) {
	for name, stop := range waysToStop {
		t.Run(name, func(t *testing.T) {
			s := newStandin(t)
			s.fault(t, fields{"hold": true})
			c := s.client(t, greenapi.WithMaxInFlight(4))
			// Four requests are held, three wait for their turn, and the last one is refused,
			// which is the first result.
			ids := func(yield func(int64) bool) {
				for id := int64(1); id <= 7; id++ {
					if !yield(id) {
						t.Errorf("the loop ended at id %d", id)
						return
					}
					if id == 4 {
						s.wait(t, "held=4")
					}
				}
				if yield(-1) {
					t.Error("the loop did not end")
				}
			}
			run := c.Deletions(context.Background(), ids)
			seen, rest := stop(run)

			if len(seen) != 1 || seen[0].ID != -1 {
				t.Errorf("the loop saw %v", seen)
			}
			fates := map[int64]greenapi.Status{}
			for _, result := range rest {
				fates[result.ID] = result.Status
			}
			want := map[int64]greenapi.Status{
				1: greenapi.StatusCancelledInFlight, 2: greenapi.StatusCancelledInFlight,
				3: greenapi.StatusCancelledInFlight, 4: greenapi.StatusCancelledInFlight,
				5: greenapi.StatusCancelled, 6: greenapi.StatusCancelled, 7: greenapi.StatusCancelled,
			}
			if len(rest) != len(want) || !maps.Equal(fates, want) {
				t.Errorf("Stop returned %v", rest)
			}
			if again := run.Stop(); len(again) != 0 {
				t.Errorf("stopping again returns %v", again)
			}
			for result := range run.Results() {
				t.Errorf("a second loop gets %+v", result)
			}
			s.call(t, "DELETE", "/faults", nil, nil)
			if _, err := c.DeleteInstance(context.Background(), firstID); err != nil {
				t.Errorf("the client afterwards: %v", err)
			}
		})
	}
}

// After the context is cancelled, the loop itself gets the rest of the results.
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
