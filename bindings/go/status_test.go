//go:build cgo && (unix || windows)

package greenapi_test

import (
	"context"
	"errors"
	"testing"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

// Every status with its name in greenapi.h, its effect, and its error variable.
var statuses = []struct {
	status   greenapi.Status
	name     string
	effect   greenapi.Effect
	sentinel error
}{
	{greenapi.StatusOK, "OK", greenapi.EffectDeleted, nil},
	{greenapi.StatusGone, "GONE", greenapi.EffectDeleted, nil},
	{greenapi.StatusNotFound, "NOT_FOUND", greenapi.EffectNotDeleted, greenapi.ErrNotFound},
	{greenapi.StatusUnauthorized, "UNAUTHORIZED", greenapi.EffectNotDeleted, greenapi.ErrUnauthorized},
	{greenapi.StatusForbidden, "FORBIDDEN", greenapi.EffectNotDeleted, greenapi.ErrForbidden},
	{greenapi.StatusRateLimited, "RATE_LIMITED", greenapi.EffectNotDeleted, greenapi.ErrRateLimited},
	{greenapi.StatusRejected, "REJECTED", greenapi.EffectNotDeleted, greenapi.ErrRejected},
	{greenapi.StatusSessionActive, "SESSION_ACTIVE", greenapi.EffectNotDeleted, greenapi.ErrSessionActive},
	{greenapi.StatusSessionUnknown, "SESSION_UNKNOWN", greenapi.EffectNotDeleted, greenapi.ErrSessionUnknown},
	{greenapi.StatusInvalidArgument, "INVALID_ARGUMENT", greenapi.EffectNotDeleted, greenapi.ErrInvalidArgument},
	{greenapi.StatusConnectFailed, "CONNECT_FAILED", greenapi.EffectNotDeleted, greenapi.ErrConnectFailed},
	{greenapi.StatusTLSFailed, "TLS_FAILED", greenapi.EffectNotDeleted, greenapi.ErrTLSFailed},
	{greenapi.StatusCancelled, "CANCELLED", greenapi.EffectNotDeleted, greenapi.ErrCancelled},
	{greenapi.StatusOutOfResources, "OUT_OF_RESOURCES", greenapi.EffectNotDeleted, greenapi.ErrOutOfResources},
	{greenapi.StatusUnprocessed, "UNPROCESSED", greenapi.EffectNotDeleted, greenapi.ErrUnprocessed},
	{greenapi.StatusNotStarted, "NOT_STARTED", greenapi.EffectNotDeleted, greenapi.ErrNotStarted},
	{greenapi.StatusTimeout, "TIMEOUT", greenapi.EffectUnknown, greenapi.ErrTimeout},
	{greenapi.StatusConnectionLost, "CONNECTION_LOST", greenapi.EffectUnknown, greenapi.ErrConnectionLost},
	{greenapi.StatusServerError, "SERVER_ERROR", greenapi.EffectUnknown, greenapi.ErrServerError},
	{greenapi.StatusBadResponse, "BAD_RESPONSE", greenapi.EffectUnknown, greenapi.ErrBadResponse},
	{greenapi.StatusCancelledInFlight, "CANCELLED_IN_FLIGHT", greenapi.EffectUnknown, greenapi.ErrCancelledInFlight},
	{greenapi.StatusInternal, "INTERNAL", greenapi.EffectUnknown, greenapi.ErrInternal},
}

func sentinelOf(t *testing.T, status greenapi.Status) error {
	t.Helper()
	for _, s := range statuses {
		if s.status == status {
			return s.sentinel
		}
	}
	t.Fatalf("%v is not in the table", status)
	return nil
}

func TestStatusesAreTheLibrarys(t *testing.T) {
	for _, s := range statuses {
		if got, want := s.status.String(), "GREENAPI_STATUS_"+s.name; got != want {
			t.Errorf("status %d is %s, want %s", int32(s.status), got, want)
		}
		if got := s.status.Effect(); got != s.effect {
			t.Errorf("%v: effect %v, want %v", s.status, got, s.effect)
		}
		if s.status.Message() == "" {
			t.Errorf("%v has no message", s.status)
		}
		if s.sentinel != nil {
			if got, want := s.sentinel.Error(), "greenapi: "+s.status.Message(); got != want {
				t.Errorf("%v: the error variable says %q, want %q", s.status, got, want)
			}
		}
	}
	for _, unknown := range []greenapi.Status{-1, 2, 29, 49, 1 << 30} {
		if unknown.String() == "" || unknown.Message() == "" || unknown.Effect().String() == "" {
			t.Errorf("status %d is not harmless", int32(unknown))
		}
	}
}

func TestAnErrorIsItsStatusAndItsEffectAndNothingElse(t *testing.T) {
	for _, s := range statuses {
		if s.sentinel == nil {
			continue
		}
		var err error = &greenapi.Error{Status: s.status, Message: "m"}
		for _, other := range statuses {
			if other.sentinel == nil {
				continue
			}
			if got, want := errors.Is(err, other.sentinel), s.status == other.status; got != want {
				t.Errorf("errors.Is(%v, %v) = %v", s.status, other.status, got)
			}
		}
		if got, want := errors.Is(err, greenapi.ErrNotDeleted), s.effect == greenapi.EffectNotDeleted; got != want {
			t.Errorf("errors.Is(%v, ErrNotDeleted) = %v", s.status, got)
		}
		if got, want := errors.Is(err, greenapi.ErrOutcomeUnknown), s.effect == greenapi.EffectUnknown; got != want {
			t.Errorf("errors.Is(%v, ErrOutcomeUnknown) = %v", s.status, got)
		}
		if errors.Is(err, greenapi.ErrClosed) || errors.Is(err, greenapi.ErrLibraryVersion) || errors.Is(err, context.Canceled) {
			t.Errorf("%v is an error that it has nothing to do with", s.status)
		}
		if got, want := errors.Is(err, context.DeadlineExceeded), s.status == greenapi.StatusTimeout; got != want {
			t.Errorf("errors.Is(%v, context.DeadlineExceeded) = %v", s.status, got)
		}
	}
}

// TestEveryStatus makes each status happen; those of cancellation are in context_test.go, that of
// exhausted resources in process_test.go. The library has no way to INTERNAL but a defect.
func TestEveryStatus(t *testing.T) {
	noRetries := greenapi.WithMaxRetries(0)
	for _, test := range []struct {
		want     greenapi.Status
		code     int
		http     int
		attempts int
		fault    fields
		rule     fields
		url      func(*standin) string
		token    string
		id       int64
		opts     []greenapi.Option
	}{
		{want: greenapi.StatusOK, code: 200, http: 200, attempts: 1},
		{want: greenapi.StatusGone, code: 404, http: 200, attempts: 2,
			fault: fields{"stage": "acted", "then": "reset"}, rule: fields{"times": 1}},
		{want: greenapi.StatusNotFound, code: 404, http: 200, attempts: 1, id: 42},
		{want: greenapi.StatusUnauthorized, code: 401, http: 200, attempts: 1, token: "gac.wrong"},
		{want: greenapi.StatusForbidden, code: 403, http: 403, attempts: 1, fault: fields{"status": 403}},
		{want: greenapi.StatusRateLimited, code: 429, http: 429, attempts: 1,
			fault: fields{"status": 429}, opts: []greenapi.Option{noRetries}},
		{want: greenapi.StatusRejected, code: 404, http: 404, attempts: 1, fault: fields{"status": 404}},
		{want: greenapi.StatusSessionActive, attempts: 0,
			opts: []greenapi.Option{greenapi.WithSession(greenapi.SessionRequireLoggedOut)}},
		{want: greenapi.StatusSessionUnknown, attempts: 0,
			fault: fields{"body": "?"}, rule: fields{"method": "list"},
			opts: []greenapi.Option{greenapi.WithSession(greenapi.SessionLogOut), noRetries}},
		{want: greenapi.StatusInvalidArgument, id: -1},
		{want: greenapi.StatusConnectFailed, url: trap("refused"), opts: []greenapi.Option{noRetries}},
		{want: greenapi.StatusTLSFailed, url: func(s *standin) string { return s.HTTPS },
			opts: []greenapi.Option{noRetries}},
		{want: greenapi.StatusTimeout, attempts: 1, url: trap("accept_stall"),
			opts: []greenapi.Option{greenapi.WithTimeout(200 * time.Millisecond)}},
		{want: greenapi.StatusConnectionLost, attempts: 1,
			fault: fields{"stage": "acted", "then": "reset"}, opts: []greenapi.Option{noRetries}},
		{want: greenapi.StatusServerError, code: 502, http: 502, attempts: 1,
			fault: fields{"status": 502}, opts: []greenapi.Option{noRetries}},
		{want: greenapi.StatusBadResponse, code: 200, http: 200, attempts: 1,
			fault: fields{"body": "<html>"}},
	} {
		t.Run(test.want.String(), func(t *testing.T) {
			s := newStandin(t)
			if test.fault != nil {
				s.fault(t, test.fault, test.rule)
			}
			url, token, id := s.HTTP, s.Token, firstID
			if test.url != nil {
				url = test.url(s)
			}
			if test.token != "" {
				token = test.token
			}
			if test.id != 0 {
				id = test.id
			}
			c := newClient(t, url, token, test.opts...)
			result, err := c.DeleteInstance(context.Background(), id)

			if result.Status != test.want || result.ID != id || result.Effect() != test.want.Effect() {
				t.Fatalf("got %+v", result)
			}
			if result.Code != test.code || result.HTTPStatus != test.http || result.Attempts != test.attempts {
				t.Errorf("got %+v, want code %d, HTTP status %d, %d attempts", result, test.code, test.http, test.attempts)
			}
			if result.Message == "" {
				t.Error("no message")
			}
			if result.Effect() == greenapi.EffectDeleted {
				if err != nil || result.Err() != nil {
					t.Errorf("an error though the instance is gone: %v", err)
				}
				return
			}
			if !errors.Is(err, sentinelOf(t, test.want)) {
				t.Errorf("%v is not %v", err, sentinelOf(t, test.want))
			}
			var e *greenapi.Error
			if !errors.As(err, &e) {
				t.Fatalf("%T is no *greenapi.Error", err)
			}
			if e.ID != result.ID || e.Status != result.Status || e.Effect() != result.Effect() || e.Code != result.Code ||
				e.HTTPStatus != result.HTTPStatus || e.Attempts != result.Attempts || e.Message != result.Message {
				t.Errorf("error %+v differs from result %+v", e, result)
			}
			if e.Timeout() != (test.want == greenapi.StatusTimeout) {
				t.Errorf("Timeout() = %v", e.Timeout())
			}
		})
	}
}

func trap(name string) func(*standin) string {
	return func(s *standin) string { return s.Traps[name] }
}

func TestTheOneCall(t *testing.T) {
	s := newStandin(t)
	if err := greenapi.DeleteInstance(s.HTTP, s.Token, firstID); err != nil {
		t.Fatal(err)
	}
	if err := greenapi.DeleteInstance(s.HTTP, s.Token, firstID); !errors.Is(err, greenapi.ErrNotFound) {
		t.Errorf("the second time: %v", err)
	}
	if err := greenapi.DeleteInstance(s.HTTP, "gac.wrong", firstID+1); !errors.Is(err, greenapi.ErrUnauthorized) {
		t.Errorf("a wrong token: %v", err)
	}
	err := greenapi.DeleteInstance("ftp://localhost", s.Token, firstID+1)
	if !errors.Is(err, greenapi.ErrInvalidArgument) || !errors.Is(err, greenapi.ErrNotDeleted) {
		t.Errorf("a wrong URL: %v", err)
	}
	for name, err := range map[string]error{
		"a wrong URL": err,
		"no token":    greenapi.DeleteInstance(s.HTTP, "", firstID+1),
	} {
		var e *greenapi.Error
		if !errors.As(err, &e) || e.ID != firstID+1 {
			t.Errorf("%s: %v is not about the instance", name, err)
		}
	}
	if got := s.deleted(t); len(got) != 1 || got[0] != firstID {
		t.Errorf("really deleted: %v", got)
	}
	if accepted := s.stats(t).Connections.Accepted; accepted != 1 {
		t.Errorf("%d connections for calls one after the other", accepted)
	}
}
