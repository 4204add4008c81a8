//go:build cgo && (unix || windows)

package greenapi

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// DeleteInstance deletes one instance with the defaults of [NewClient]: 30 seconds for the whole
// call, 10 to connect, 3 retries, the system's certificates and proxy settings. It returns nil
// when the instance is gone and an [*Error] otherwise.
//
// The url is https://host[:port][/prefix]; http:// is for loopback hosts only. An id is from 1 to
// 9999999999. Connections are kept and reused across calls, whatever their token. Deleting cannot
// be undone, and does not log out the instance's device: see [WithSession].
//
// Use it for a few deletions: a call cannot be cancelled, and nothing limits how many calls
// goroutines have under way at once. For many deletions make a [Client].
func DeleteInstance(url, token string, id int64) error {
	c, err := NewClient(url, token)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			about := *e
			about.ID = id
			return &about
		}
		return err
	}
	defer c.open().close()
	_, err = c.DeleteInstance(context.Background(), id)
	return err
}

// Client deletes instances of one account. Many goroutines may use it at once. Keep a client: its
// calls share connections, pace and limits. Copies of a Client are the same client. The zero Client
// is closed. The garbage collector frees a client that is dropped without Close.
type Client struct {
	// inner is shared by copies, as in os.File, because each handle must be freed once.
	inner *client
}

type client struct {
	queue *queue
	// window is the most submissions that one DeleteInstances has under way.
	window uint64

	// mu keeps Close from freeing the handle while another goroutine passes it to the library.
	mu     sync.RWMutex
	handle clientHandle
}

// NewClient returns a client for the account that the token belongs to. For the url see
// [DeleteInstance]; a nil Option does nothing. Nothing is sent yet. It fails with an [*Error]:
// [ErrInvalidArgument] with a message that names the argument or option, [ErrOutOfResources], or
// [ErrLibraryVersion].
func NewClient(url, token string, opts ...Option) (*Client, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	var o options
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	if o.err != nil {
		return nil, o.err
	}
	q, err := openQueue()
	if err != nil {
		return nil, err
	}
	handle, maxInFlight, err := newClient(url, token, &o)
	if err != nil {
		return nil, err
	}
	// Twice max_in_flight, so that the library can fill a free slot before the caller wakes.
	c := &client{queue: q, window: 2 * uint64(maxInFlight), handle: handle}
	runtime.SetFinalizer(c, (*client).close)
	return &Client{c}, nil
}

// Close releases the client. Calls under way complete; every later call ends in [ErrClosed].
// Closing again, or closing nil, has no effect. The error is always nil: it makes Client an
// [io.Closer].
func (c *Client) Close() error {
	if inner := c.open(); inner != nil {
		inner.close()
	}
	return nil
}

// open returns nil for a client that NewClient did not make.
func (c *Client) open() *client {
	if c == nil {
		return nil
	}
	return c.inner
}

func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	freeClient(c.handle)
	c.handle = nil
	runtime.SetFinalizer(c, nil)
}

// DeleteInstance deletes one instance and waits for the result. The error is nil when the instance
// is gone, and the result's [Result.Err] otherwise.
//
// When ctx ends first, the request is cancelled and the call returns at once (with a journal: when
// that is recorded, or after a second), with [ErrCancelled] when the request had not been sent:
// nothing was deleted. [ErrCancelledInFlight] means that the request may have been sent: call again
// with the same id, and the result shows whether the instance is gone. Both also match the error of
// ctx. A result that came just before is returned as it is.
func (c *Client) DeleteInstance(ctx context.Context, id int64) (Result, error) {
	result := c.open().deleteInstance(ctx, id)
	return result, result.Err()
}

func (c *client) deleteInstance(ctx context.Context, id int64) Result {
	if c == nil {
		return closed(id)
	}
	if ctx.Err() != nil {
		return unsent(ctx, id)
	}
	w := c.queue.register()
	defer c.queue.unregister(w)
	if failure := c.submit(id, w.tag); failure != nil {
		return *failure
	}
	select {
	case <-w.ready:
		return w.only()
	case <-ctx.Done():
		// A cancelled submission has its result at once, or when the journal has its record.
		c.queue.cancel(w.tag)
		<-w.ready
		return w.only().interrupted(ctx)
	}
}

// submit hands a deletion to the library, or returns the result of one that it refused.
func (c *client) submit(id int64, tag uint64) *Result {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var failure Result
	if c.handle == nil {
		failure = closed(id)
	} else if status := submit(c.queue.handle, c.handle, id, tag); status != StatusOK {
		failure = refused(id, status, status.Message(), nil)
	} else {
		return nil
	}
	return &failure
}

// closed is the result of a call on a closed client.
func closed(id int64) Result {
	return refused(id, StatusInvalidArgument, "The client is closed: make another one with NewClient.", ErrClosed)
}

// unsent is the result of a call whose context had ended before the submission.
func unsent(ctx context.Context, id int64) Result {
	return refused(id, StatusCancelled, StatusCancelled.Message(), nil).interrupted(ctx)
}
