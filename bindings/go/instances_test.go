//go:build cgo && (unix || windows)

package greenapi_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

// listed returns a stand-in with three instances of all kinds.
func listed(t *testing.T) *standin {
	t.Helper()
	s := newStandin(t)
	s.call(t, "DELETE", "/instances", nil, nil)
	s.call(t, "POST", "/instances", []fields{
		{"id": 1, "state": "authorized", "name": "Ünïcode\n🦀", "time_created": "2024-03-06T05:48:17"},
		{"id": 2, "deleted": true, "time_deleted": "2999-06-12T15:43:31", "type_instance": "telegram"},
		{"id": 3, "expired": true, "is_free": true, "is_partner": false, "tariff": "DEVELOPER"},
	}, nil)
	return s
}

func all(t *testing.T, c *greenapi.Client, opts ...greenapi.ListOption) []greenapi.Instance {
	t.Helper()
	var all []greenapi.Instance
	for instance, err := range c.Instances(context.Background(), opts...) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, instance)
	}
	return all
}

func TestInstancesHaveEveryField(t *testing.T) {
	s := listed(t)
	c := s.client(t)
	for states, want := range map[bool][]greenapi.State{
		false: {greenapi.StateNotAsked, greenapi.StateNotAsked, greenapi.StateNotAsked},
		true:  {greenapi.StateAuthorized, greenapi.StateNotAsked, greenapi.StateExpired},
	} {
		opts := []greenapi.ListOption{nil}
		if states {
			opts = append(opts, greenapi.WithStates())
		}
		got := all(t, c, opts...)
		if len(got) != 3 {
			t.Fatalf("got %+v", got)
		}
		for i, instance := range got {
			if instance.ID != int64(i+1) || instance.State != want[i] {
				t.Errorf("got %+v, want state %v", instance, want[i])
			}
		}
		one, two, three := got[0], got[1], got[2]
		if one.Name != "Ünïcode\n🦀" || one.Type != "whatsapp" || one.Deleted || one.Expired || one.Free || !one.Partner ||
			!one.CreatedAt.Equal(time.Date(2024, 3, 6, 5, 48, 17, 0, time.UTC)) || !one.DeletedAt.IsZero() {
			t.Errorf("got %+v", one)
		}
		if !two.Deleted || two.Type != "telegram" || two.DeletedAt.Format(time.RFC3339) != "2999-06-12T15:43:31Z" {
			t.Errorf("got %+v", two)
		}
		if !three.Expired || !three.Free || three.Partner || three.Tariff != "DEVELOPER" || three.Deleted {
			t.Errorf("got %+v", three)
		}
	}
}

func TestALongListComesInOrderAndMayBeLeft(t *testing.T) {
	const count = 3000
	s := newStandin(t)
	s.call(t, "DELETE", "/instances", nil, nil)
	s.instances(t, 1, count)
	c := s.client(t)
	for i, instance := range all(t, c) {
		if instance.ID != int64(i+1) {
			t.Fatalf("number %d is %+v", i, instance)
		}
	}
	if got := len(all(t, c)); got != count {
		t.Errorf("%d instances", got)
	}
	before := runtime.NumGoroutine()
	seen := 0
	for instance, err := range c.Instances(context.Background()) {
		if err != nil {
			t.Error(instance, err)
		}
		if seen++; seen == 100 {
			break
		}
	}
	if after := runtime.NumGoroutine(); seen != 100 || after > before {
		t.Errorf("%d seen; %d goroutines, %d before", seen, after, before)
	}
}

func TestAnEmptyListIsWhole(t *testing.T) {
	s := newStandin(t)
	s.call(t, "DELETE", "/instances", nil, nil)
	if got := all(t, s.client(t)); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

// A list that breaks off always ends with an error.
func TestAListThatBreaksOffSaysSo(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault fields
		token string
		want  error
	}{
		{"cut", fields{"status": 200, "body": `[{"idInstance": 1, "typeInstance": "v3"}, {"idInstance": 2`}, "", greenapi.ErrBadResponse},
		{"an item without an id", fields{"status": 200, "body": `[{"idInstance": 1}, {"name": "x"}]`}, "", greenapi.ErrBadResponse},
		{"an error inside 200", fields{"status": 200, "body": `{"code": 401, "description": "Unauthorized"}`}, "", greenapi.ErrUnauthorized},
		{"a wrong token", nil, "gac.wrong", greenapi.ErrUnauthorized},
		{"429", fields{"status": 429, "body": ""}, "", greenapi.ErrRateLimited},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStandin(t)
			if test.fault != nil {
				s.fault(t, test.fault, fields{"method": "list"})
			}
			token := s.Token
			if test.token != "" {
				token = test.token
			}
			errs, after := 0, 0
			for instance, err := range newClient(t, s.HTTP, token, greenapi.WithMaxRetries(0)).Instances(context.Background()) {
				if errs > 0 {
					after++
				}
				if err == nil {
					continue
				}
				errs++
				var e *greenapi.Error
				if !errors.Is(err, test.want) || !errors.As(err, &e) || instance != (greenapi.Instance{}) {
					t.Errorf("got %+v, %v, want %v", instance, err, test.want)
				}
			}
			if errs != 1 || after != 0 {
				t.Errorf("%d errors, %d items after the first", errs, after)
			}
		})
	}
}

func TestTheContextEndsAList(t *testing.T) {
	s := listed(t)
	c := s.client(t)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range c.Instances(ended) {
		if !errors.Is(err, context.Canceled) || !errors.Is(err, greenapi.ErrCancelled) {
			t.Errorf("got %v", err)
		}
	}
	if got := s.stats(t).Received; got != 0 {
		t.Errorf("%d requests were sent", got)
	}

	// Also while instances wait to be yielded.
	halfWay, cancel := context.WithCancel(context.Background())
	defer cancel()
	var last error
	seen := 0
	for _, err := range c.Instances(halfWay) {
		if last = err; err == nil {
			seen++
			cancel()
		}
	}
	if seen != 1 || !errors.Is(last, context.Canceled) {
		t.Errorf("%d instances, then %v", seen, last)
	}

	s.fault(t, fields{"hold": true}, fields{"method": "list"})
	cause := errors.New("the user pressed stop")
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	done := make(chan error, 1)
	go func() {
		for _, err := range c.Instances(ctx) {
			done <- err
		}
	}()
	s.wait(t, "held=1")
	stop(cause)
	if err := within(t, 10*time.Second, done); !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.wait(t, "open=0") // the request is gone, too
}

func TestAClosedClientHasNoList(t *testing.T) {
	c := newStandin(t).client(t)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range []*greenapi.Client{c, {}, nil} {
		errs := 0
		for instance, err := range c.Instances(context.Background()) {
			errs++
			if !errors.Is(err, greenapi.ErrClosed) || instance != (greenapi.Instance{}) {
				t.Errorf("got %+v, %v", instance, err)
			}
		}
		if errs != 1 {
			t.Errorf("%d errors", errs)
		}
	}
}
