//go:build cgo && (unix || windows)

package greenapi_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

type outcome struct {
	result greenapi.Result
	err    error
}

// deleteHeld begins a deletion and returns when the stand-in holds it.
func deleteHeld(t *testing.T, ctx context.Context, s *standin, c *greenapi.Client) <-chan outcome {
	t.Helper()
	s.fault(t, fields{"hold": true})
	done := make(chan outcome, 1)
	go func() {
		result, err := c.DeleteInstance(ctx, firstID)
		done <- outcome{result, err}
	}()
	s.wait(t, "held=1")
	return done
}

func TestCancellingEndsTheWaitAndTheRequest(t *testing.T) {
	s := newStandin(t)
	cause := errors.New("the user pressed stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	done := deleteHeld(t, ctx, s, s.client(t))
	cancel(cause)
	got := within(t, 5*time.Second, done)

	if got.result.Status != greenapi.StatusCancelledInFlight || got.result.Attempts != 1 {
		t.Errorf("got %+v", got.result)
	}
	for _, want := range []error{context.Canceled, cause, greenapi.ErrCancelledInFlight, greenapi.ErrOutcomeUnknown} {
		if !errors.Is(got.err, want) {
			t.Errorf("%v is not %v", got.err, want)
		}
	}
	if errors.Is(got.err, context.DeadlineExceeded) {
		t.Errorf("%v is a missed deadline", got.err)
	}
	s.wait(t, "open=0") // the request is gone, not only the wait
	if deleted := s.deleted(t); len(deleted) != 0 {
		t.Errorf("really deleted: %v", deleted)
	}
}

func TestADeadlineEndsTheWaitAndTheRequest(t *testing.T) {
	s := newStandin(t)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	s.fault(t, fields{"hold": true})
	_, err := s.client(t).DeleteInstance(ctx, firstID)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v is no timeout by package net's measure", err)
	}
	var e *greenapi.Error
	if !errors.As(err, &e) || e.Effect() != greenapi.EffectUnknown || !e.Timeout() {
		t.Errorf("got %+v", e)
	}
	s.wait(t, "open=0")
}

func TestAnEndedContextSendsNothing(t *testing.T) {
	s := newStandin(t)
	c := s.client(t)
	// On a connection that is open already, and many times, because a request that is cancelled
	// at once might not get far.
	if _, err := c.DeleteInstance(context.Background(), firstID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 2000 {
		result, err := c.DeleteInstance(ctx, firstID)
		if result.Status != greenapi.StatusCancelled || result.ID != firstID || result.Message == "" {
			t.Errorf("got %+v", result)
		}
		if !errors.Is(err, context.Canceled) || !errors.Is(err, greenapi.ErrCancelled) || !errors.Is(err, greenapi.ErrNotDeleted) {
			t.Errorf("got %v", err)
		}
	}
	for result := range c.DeleteInstances(ctx, slices.Values([]int64{firstID})) {
		t.Errorf("got %+v", result)
	}
	if got := s.stats(t); got.Received != 1 || got.Connections.Accepted != 1 {
		t.Errorf("%d requests on %d connections", got.Received, got.Connections.Accepted)
	}
}

func TestAResultThatIsThereWinsOverTheContext(t *testing.T) {
	s := newStandin(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result, err := s.client(t).DeleteInstance(ctx, firstID)
	cancel()
	if err != nil || result.Status != greenapi.StatusOK {
		t.Errorf("got %+v, %v", result, err)
	}
}

func TestCancellingManyTellsWhichWereSent(t *testing.T) {
	s := newStandin(t)
	s.fault(t, fields{"hold": true})
	c := s.client(t, greenapi.WithMaxInFlight(2))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ids := func(yield func(int64) bool) {
		// Two are sent, and the third waits for its turn: every id yielded is submitted.
		for id := range idRange(firstID, 3) {
			if !yield(id) {
				t.Errorf("the loop ended at id %d", id)
				return
			}
		}
		s.wait(t, "held=2")
		cancel()
	}
	var got []greenapi.Status
	for result := range c.DeleteInstances(ctx, ids) {
		if err := result.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		got = append(got, result.Status)
	}
	slices.Sort(got)
	want := []greenapi.Status{
		greenapi.StatusCancelled, greenapi.StatusCancelledInFlight, greenapi.StatusCancelledInFlight,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if received := s.stats(t).Received; received != 2 {
		t.Errorf("%d requests were sent", received)
	}
}
