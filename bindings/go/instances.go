//go:build cgo && (unix || windows)

package greenapi

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Instance is one instance of the account, as the API's list shows it.
type Instance struct {
	// ID is the instance.
	ID int64
	// Type is the messenger: "whatsapp", "telegram", "v3" (MAX), or what else the API says.
	Type string
	// Name is the name, cut to at most 167 bytes. It may contain any character.
	Name string
	// Tariff is the tariff.
	Tariff string
	// State is the state: [StateNotAsked] without [WithStates] and for deleted instances.
	State State
	// CreatedAt, DeletedAt and ExpiresAt are in UTC: the API's times have no zone and are read as
	// UTC. They are zero where the API gives none.
	CreatedAt, DeletedAt, ExpiresAt time.Time
	// Deleted, Expired, Free and Partner are what the API says.
	Deleted, Expired, Free, Partner bool
}

// State is the state of an instance. A newer library may add some.
type State int32

// The states that the library knows.
const (
	// StateNotAsked: the list was requested without states, or the instance is deleted.
	StateNotAsked State = 0
	// StateNotAuthorized: nobody is logged in.
	StateNotAuthorized State = 1
	// StateAuthorized: a device is logged in.
	StateAuthorized State = 2
	// StateBlocked: the messenger has banned the account.
	StateBlocked State = 3
	// StateSleepMode: a device is logged in and switched off.
	StateSleepMode State = 4
	// StateStarting: the instance is starting, which takes up to five minutes.
	StateStarting State = 5
	// StateYellowCard: a device is logged in; sending is limited for suspicion of spam.
	StateYellowCard State = 6
	// StateSuspended: the messenger has suspended the account.
	StateSuspended State = 7
	// StatePendingPassword: a login waits for its password.
	StatePendingPassword State = 8
	// StateExpired: the instance has expired: none of its own methods works until it is renewed.
	StateExpired State = 9
	// StateCreating: the instance is being created, which takes up to five minutes.
	StateCreating State = 10
	// StateOther: a state that this version of the library does not know.
	StateOther State = 11
	// StateUnknown: the state could not be learned.
	StateUnknown State = 12
)

var stateNames = [...]string{"not asked", "notAuthorized", "authorized", "blocked", "sleepMode", "starting",
	"yellowCard", "suspended", "pendingPassword", "expired", "creating", "other", "unknown"}

// String returns the API's word for the state, such as "notAuthorized"; for a state without one,
// "not asked", "expired", "creating", "other" or "unknown".
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "other"
	}
	return stateNames[s]
}

// MarshalText returns what String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *State) UnmarshalText(text []byte) error {
	number := slices.Index(stateNames[:], string(text))
	if number < 0 {
		return fmt.Errorf("greenapi: %q is no state", text)
	}
	*s = State(number)
	return nil
}

// ListOption is an option of [Client.Instances].
type ListOption func(*listOptions)

type listOptions struct{ states bool }

// WithStates asks each instance that is not deleted for its state, under the client's pace and
// limits and at most once a second for each: see [Instance.State].
func WithStates() ListOption {
	return func(o *listOptions) { o.states = true }
}

// Instances yields the account's instances in the API's order, the deleted ones of the last three
// months included, while the list is still being read. A slow loop holds back the reading, so
// memory does not grow with the list.
//
// A list that breaks off ends with one error, an [*Error], and the zero Instance. So a loop without
// an error has seen the whole list. The loop may be left at any time; the end of ctx ends the loop
// at once, also with an error. Each loop requests the list anew.
func (c *Client) Instances(ctx context.Context, opts ...ListOption) iter.Seq2[Instance, error] {
	return func(yield func(Instance, error) bool) {
		var o listOptions
		for _, opt := range opts {
			if opt != nil {
				opt(&o)
			}
		}
		whole := func(instance Instance) bool { return yield(instance, nil) }
		if err := c.open().instances(ctx, o, whole); err != nil {
			yield(Instance{}, err)
		}
	}
}

// instances returns nil at the end of the list, and when the loop was left.
func (c *client) instances(ctx context.Context, o listOptions, yield func(Instance) bool) error {
	if c == nil {
		return closed(0).Err()
	}
	cut := func() error {
		return refused(0, StatusCancelled, "The list of instances was not read to its end.", nil).interrupted(ctx).Err()
	}
	if ctx.Err() != nil {
		return cut()
	}
	l, err := c.list(o)
	if err != nil {
		return err
	}
	defer l.close()
	unwatch := context.AfterFunc(ctx, l.watch.interrupt)
	defer unwatch()

	for {
		var page []Instance
		var end *Result
		err := l.watch.wait(func() bool {
			page = l.take()
			if len(page) == 0 {
				end = l.ended()
			}
			return len(page) > 0 || end != nil
		})
		for _, instance := range page {
			if ctx.Err() != nil {
				return cut()
			}
			if !yield(instance) {
				return nil
			}
		}
		switch {
		case end != nil && end.Status == StatusOK:
			return nil
		case end != nil:
			failure := Error(*end)
			return &failure
		case ctx.Err() != nil:
			return cut()
		case err != nil:
			return unwatchable("list", err)
		}
	}
}

func (c *client) list(o listOptions) (*list, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.handle == nil {
		return nil, closed(0).Err()
	}
	return newList(c.handle, o.states)
}
