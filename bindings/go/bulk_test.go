//go:build cgo && (unix || windows)

package greenapi_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

// idRange yields count ids from first on.
func idRange(first int64, count int) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for id := first; id < first+int64(count); id++ {
			if !yield(id) {
				return
			}
		}
	}
}

// endless yields ids from first on and counts those that were taken.
func endless(first int64, taken *atomic.Int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for id := first; ; id++ {
			taken.Add(1)
			if !yield(id) {
				return
			}
		}
	}
}

func TestEveryIDGivesOneResult(t *testing.T) {
	const count = 3000
	s := newStandin(t)
	s.instances(t, 1, count)
	c := s.client(t)
	seen := map[int64]int{}
	// Every third does not exist.
	for result := range c.DeleteInstances(context.Background(), idRange(1, count+count/2)) {
		seen[result.ID]++
		want := greenapi.StatusOK
		if result.ID > count {
			want = greenapi.StatusNotFound
		}
		if result.Status != want {
			t.Fatalf("got %+v, want %v", result, want)
		}
		if (result.Err() == nil) != (want == greenapi.StatusOK) {
			t.Fatalf("%+v: error %v", result, result.Err())
		}
	}
	for id := int64(1); id <= count+count/2; id++ {
		if seen[id] != 1 {
			t.Errorf("id %d: %d results", id, seen[id])
		}
	}
	if got := s.deleted(t); len(got) != count {
		t.Errorf("%d were really deleted", len(got))
	}
}

func TestSeveralLoopsAtOnceKeepTheirResultsApart(t *testing.T) {
	const loops, count = 8, 500
	s := newStandin(t)
	s.instances(t, 1, loops*count)
	c := s.client(t)
	var group sync.WaitGroup
	for loop := range int64(loops) {
		group.Add(1)
		go func() {
			defer group.Done()
			first := 1 + loop*count
			results := 0
			for result := range c.DeleteInstances(context.Background(), idRange(first, count)) {
				results++
				if result.ID < first || result.ID >= first+count || result.Err() != nil {
					t.Errorf("loop %d got %+v", loop, result)
				}
			}
			if results != count {
				t.Errorf("loop %d got %d results", loop, results)
			}
		}()
	}
	group.Wait()
}

func TestNothingStartsBeforeTheLoop(t *testing.T) {
	s := newStandin(t)
	var taken atomic.Int64
	s.client(t).DeleteInstances(context.Background(), endless(1, &taken))
	if taken.Load() != 0 || s.stats(t).Connections.Accepted != 0 {
		t.Errorf("%d ids taken, %d connections made", taken.Load(), s.stats(t).Connections.Accepted)
	}
}

func TestNoIDsNoResults(t *testing.T) {
	s := newStandin(t)
	for result := range s.client(t).DeleteInstances(context.Background(), idRange(1, 0)) {
		t.Errorf("got %+v", result)
	}
}

func TestIDsAreTakenOnlyAsNeededAndLeavingTheLoopCancels(t *testing.T) {
	const inFlight, window = 4, 8
	s := newStandin(t)
	s.instances(t, 1, 1000)
	s.fault(t, fields{"hold": true})
	c := s.client(t, greenapi.WithMaxInFlight(inFlight))
	var taken atomic.Int64
	windowTaken, watched := make(chan struct{}), make(chan struct{})
	ids := func(yield func(int64) bool) {
		for id := range endless(1, &taken) {
			if id == window {
				close(windowTaken)
			}
			if !yield(id) {
				return
			}
		}
	}
	go func() {
		defer close(watched)
		// The results must not come before the loop has taken as many ids as it may: otherwise the
		// next ids would not be under way when the loop is left.
		select {
		case <-windowTaken:
		case <-time.After(30 * time.Second):
			t.Errorf("%d ids taken, not %d", taken.Load(), window)
		}
		s.wait(t, "held=4")
		if n := taken.Load(); n > window {
			t.Errorf("%d ids taken without one result", n)
		}
		s.release(t)
	}()
	results := 0
	for result := range c.DeleteInstances(context.Background(), ids) {
		if result.Err() != nil {
			t.Errorf("got %+v", result)
		}
		if results++; results == inFlight {
			s.wait(t, "held=4") // the next ones
			break
		}
	}
	<-watched
	if n := taken.Load(); n > window+inFlight {
		t.Errorf("%d ids taken for %d results", n, results)
	}
	s.wait(t, "open=0") // the next ones are gone, and with them their connections
	if got := s.deleted(t); len(got) != inFlight {
		t.Errorf("really deleted: %v", got)
	}
}

// oneHeld yields 2, which the stand-in holds, and then 1, which the stand-in answers, on a second
// connection. The first connection ends with its request.
func oneHeld(t *testing.T, s *standin) iter.Seq[int64] {
	s.instances(t, 1, 2)
	s.fault(t, fields{"hold": true}, fields{"id": 2})
	return func(yield func(int64) bool) {
		if yield(2) {
			s.wait(t, "held=1")
			yield(1)
		}
	}
}

func TestAPanicInTheLoopCancels(t *testing.T) {
	s := newStandin(t)
	c := s.client(t)
	ids := oneHeld(t, s)
	func() {
		defer func() {
			if got := recover(); got != "stop" {
				t.Errorf("recovered %v", got)
			}
		}()
		for range c.DeleteInstances(context.Background(), ids) {
			panic("stop")
		}
	}()
	s.wait(t, "open=1")
	if got := s.deleted(t); !slices.Equal(got, []int64{1}) {
		t.Errorf("really deleted: %v", got)
	}
	if _, err := c.DeleteInstance(context.Background(), 1); !errors.Is(err, greenapi.ErrNotFound) {
		t.Errorf("the client afterwards: %v", err)
	}
}

func TestTheContextCancelsAlsoWhileTheLoopIsBusy(t *testing.T) {
	s := newStandin(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := map[int64]greenapi.Result{}
	for result := range s.client(t).DeleteInstances(ctx, oneHeld(t, s)) {
		got[result.ID] = result
		if result.ID == 1 {
			cancel()
			s.wait(t, "open=1")
		}
	}
	if len(got) != 2 || got[1].Err() != nil {
		t.Errorf("got %+v", got)
	}
	if err := got[2].Err(); !errors.Is(err, context.Canceled) || !errors.Is(err, greenapi.ErrCancelledInFlight) {
		t.Errorf("got %v", err)
	}
}

func TestClosingInALoopRefusesTheRest(t *testing.T) {
	s := newStandin(t)
	c := s.client(t)
	ids := func(yield func(int64) bool) {
		if !yield(firstID) {
			return
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		yield(firstID + 1)
	}
	got := map[int64]error{}
	for result := range c.DeleteInstances(context.Background(), ids) {
		got[result.ID] = result.Err()
	}
	if len(got) != 2 || got[firstID] != nil || !errors.Is(got[firstID+1], greenapi.ErrClosed) {
		t.Errorf("got %v", got)
	}
}
