//go:build cgo && unix

package greenapi

import (
	"context"
	"iter"
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
func DeleteInstance(url, token string, id int64) error {
	c, err := NewClient(url, token)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.DeleteInstance(context.Background(), id)
	return err
}

// Client deletes instances of one account. It may be used by many goroutines at once, and should
// be kept: its calls share connections, pace and limits. A client that is dropped without Close
// leaves nothing behind once the garbage collector has run.
type Client struct {
	queue *queue
	// window is how many submissions of one DeleteInstances are under way at most.
	window uint64

	// mu keeps Close from freeing the handle while another goroutine passes it to the library.
	mu     sync.RWMutex
	handle clientHandle
}

// NewClient returns a client for the account that the token belongs to. For the url see
// [DeleteInstance]. Nothing is sent yet. It fails with an [*Error]: [ErrInvalidArgument] with a
// message that names the argument or option, [ErrOutOfResources], or [ErrLibraryVersion].
func NewClient(url, token string, opts ...Option) (*Client, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	var o options
	for _, opt := range opts {
		opt(&o)
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
	c := &Client{queue: q, window: 2 * uint64(maxInFlight), handle: handle}
	runtime.SetFinalizer(c, (*Client).Close)
	return c, nil
}

// Close releases the client. Calls under way are not disturbed: they complete. Closing twice is
// fine; every later call ends in [ErrClosed]. The error is always nil: it makes Client an [io.Closer].
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	freeClient(c.handle)
	c.handle = nil
	runtime.SetFinalizer(c, nil)
	return nil
}

// DeleteInstance deletes one instance and waits for the result. The error is nil when the instance
// is gone, and the result's [Result.Err] otherwise.
//
// When ctx ends first the request is cancelled and the call returns at once: nothing was deleted
// when the request had not been sent ([ErrCancelled]), and calling again tells what happened when
// it may have been ([ErrCancelledInFlight]). Both also match the error of ctx. A result that was
// there just before is returned as it is.
func (c *Client) DeleteInstance(ctx context.Context, id int64) (Result, error) {
	result := c.deleteInstance(ctx, id)
	return result, result.Err()
}

func (c *Client) deleteInstance(ctx context.Context, id int64) Result {
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
func (c *Client) submit(id int64, tag uint64) *Result {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.handle == nil {
		r := refused(id, StatusInvalidArgument, "The client is closed: make another one with NewClient.", ErrClosed)
		return &r
	}
	if status := submit(c.queue.handle, c.handle, id, tag); status != StatusOK {
		message := status.Message()
		if status == StatusInvalidArgument {
			// The library has no room to say which, and the other arguments are good.
			message = "The id is not one that an instance can have. " + message
		}
		r := refused(id, status, message, nil)
		return &r
	}
	return nil
}

// unsent is the result for an id whose context ended before the library was asked.
func unsent(ctx context.Context, id int64) Result {
	return refused(id, StatusCancelled, StatusCancelled.Message(), nil).interrupted(ctx)
}

// DeleteInstances deletes many instances and yields their results as they complete, in any order,
// failed ones too (see [Result.Err]). Every id that is taken from ids gives exactly one result,
// unless the loop is left early, which cancels what is under way.
//
// The ids are taken on the goroutine of the loop and only as fast as they are needed: at most
// twice as many as [WithMaxInFlight] allows are under way or yet to be yielded. A sequence that
// blocks holds up the results that complete meanwhile. Nothing starts before the loop does, and
// each loop over the returned sequence deletes anew.
//
// When ctx ends, what is under way is cancelled, no further ids are taken, and the results of
// those that were are yielded: look at ctx.Err after the loop.
func (c *Client) DeleteInstances(ctx context.Context, ids iter.Seq[int64]) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		w := c.queue.register()
		defer c.queue.unregister(w)
		tag := w.tag

		var underWay uint64
		var spare []Result
		collect := func() []Result {
			results := c.queue.collect(w, spare[:0])
			underWay -= uint64(len(results))
			spare = results
			return results
		}
		// Also when the loop's body or ids panic.
		defer func() {
			if underWay > 0 {
				c.queue.cancel(tag)
			}
			for underWay > 0 {
				<-w.ready
				collect()
			}
		}()
		// Not only between two results: the loop's body and ids may take their time.
		stop := context.AfterFunc(ctx, func() { c.queue.cancel(tag) })
		defer stop()

		// deliver yields what has completed, and tells whether the loop goes on.
		deliver := func() bool {
			for _, result := range collect() {
				if ctx.Err() != nil {
					result = result.interrupted(ctx)
				}
				if !yield(result) {
					return false
				}
			}
			return true
		}
		take := func(id int64) bool {
			if ctx.Err() != nil {
				return yield(unsent(ctx, id))
			}
			if failure := c.submit(id, tag); failure != nil {
				return yield(*failure)
			}
			underWay++
			if ctx.Err() != nil {
				// It may have been submitted just after the others were cancelled.
				c.queue.cancel(tag)
			}
			for deliver() {
				if underWay < c.window {
					return true
				}
				<-w.ready
			}
			return false
		}

		if ctx.Err() == nil {
			for id := range ids {
				if !take(id) {
					return
				}
				if ctx.Err() != nil {
					break
				}
			}
		}
		for underWay > 0 {
			<-w.ready
			if !deliver() {
				return
			}
		}
	}
}
