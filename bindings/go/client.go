//go:build cgo && unix

package greenapi

import (
	"context"
	"runtime"
	"sync"
)

// DeleteInstance deletes one instance, by the defaults of [NewClient]: 30 seconds for the whole
// call, 10 to connect, 3 retries, the system's certificates and proxy settings. It returns nil
// when the instance is gone and an [*Error] otherwise.
//
// The url is https://host[:port][/prefix]; http:// is for loopback hosts only. An id is from 1 to
// 9999999999. Connections are kept and reused across calls, whatever their token. Deleting cannot
// be undone, and does not log out the instance's device: see [WithSession].
//
// It is for a few deletions: it cannot be cancelled, and nothing limits how many such calls
// goroutines have under way at once. Many deletions share a [Client].
func DeleteInstance(url, token string, id int64) error {
	c, err := NewClient(url, token)
	if err != nil {
		return err
	}
	defer c.open().close()
	_, err = c.DeleteInstance(context.Background(), id)
	return err
}

// Client deletes instances of one account. It may be used by many goroutines at once, and should
// be kept: its calls share connections, pace and limits. Copies of a Client are the same client.
// The zero Client is closed. A client that is dropped without Close leaves nothing behind once the
// garbage collector has run.
type Client struct {
	// inner is what copies share, as in os.File: each handle must be freed once.
	inner *client
}

type client struct {
	queue *queue
	// window is how many submissions of one DeleteInstances are under way at most.
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
	// The library starts requests in turn, so as many again wait in it: a slot that gets free
	// is filled without the caller having to be awake.
	c := &client{queue: q, window: 2 * uint64(maxInFlight), handle: handle}
	runtime.SetFinalizer(c, (*client).close)
	return &Client{c}, nil
}

// Close releases the client. Calls under way are not disturbed: they complete. Closing twice is
// fine, and so is closing nil; every later call ends in [ErrClosed]. The error is always nil: it
// makes Client an [io.Closer].
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
// When ctx ends first the request is cancelled and the call returns at once: nothing was deleted
// when the request had not been sent ([ErrCancelled]), and calling again tells what happened when
// it may have been ([ErrCancelledInFlight]). Both also match the error of ctx. A result that was
// there just before is returned as it is.
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
		// The result comes out of the queue at once, whatever it is: a submission that is
		// cancelled has one like any other.
		c.queue.cancel(w.tag)
		<-w.ready
		return w.only().interrupted(ctx)
	}
}

// submit hands a deletion to the library, or returns why it was not accepted.
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

// closed is the result for an id that a closed client was asked to delete.
func closed(id int64) Result {
	return refused(id, StatusInvalidArgument, "The client is closed: make another one with NewClient.", ErrClosed)
}

// unsent is the result for an id whose context ended before the library was asked.
func unsent(ctx context.Context, id int64) Result {
	return refused(id, StatusCancelled, StatusCancelled.Message(), nil).interrupted(ctx)
}
