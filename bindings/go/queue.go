//go:build cgo && unix

package greenapi

import (
	"fmt"
	"sync"
	"syscall"
	"time"
)

// queue delivers the results of the library's queue to the goroutines that wait for them.
//
// One is enough for a process, because its results carry a tag that says whose they are. So a
// client costs no descriptor and no goroutine, and one that is dropped leaves none behind.
type queue struct {
	handle queueHandle

	mu      sync.Mutex
	lastTag uint64
	waiters map[uint64]*waiter
}

// waiter receives the results of the submissions that were made for it.
type waiter struct {
	tag uint64
	// ready holds a token when results may be there. Its capacity is one, so that a delivery
	// never blocks.
	ready chan struct{}
	// results is guarded by the queue's mu, until the last one is there.
	results []Result
}

var processQueue struct {
	mu    sync.Mutex
	queue *queue
}

// openQueue returns the process's queue. A failure is not kept: what was short may be there at
// the next call.
func openQueue() (*queue, error) {
	processQueue.mu.Lock()
	defer processQueue.mu.Unlock()
	if processQueue.queue != nil {
		return processQueue.queue, nil
	}
	handle, file, err := newQueue()
	if err != nil {
		return nil, err
	}
	conn, err := file.SyscallConn()
	if err == nil {
		// The descriptor was taken by the poller exactly when deadlines work on it.
		err = file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = file.Close()
		freeQueue(handle)
		return nil, unwatchable("queue", err)
	}
	q := &queue{handle: handle, waiters: make(map[uint64]*waiter)}
	processQueue.queue = q
	go q.dispatch(conn)
	return q, nil
}

// dispatch delivers results for the life of the process.
func (q *queue) dispatch(conn syscall.RawConn) {
	var b batch
	var results []tagged
	// The poller tells of each change once only, so all there is must be taken before it is
	// waited for again, which is what returning false does.
	err := conn.Read(func(uintptr) bool {
		for {
			results = b.take(q.handle, results[:0])
			if len(results) == 0 {
				return false
			}
			q.deliver(results)
		}
	})
	// The descriptor is nobody else's and is never closed, so the wait cannot end. If it does,
	// callers would hang without a word.
	panic(fmt.Sprintf("greenapi: the wait for results ended: %v", err))
}

func (q *queue) deliver(results []tagged) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range results {
		w := q.waiters[results[i].tag]
		w.results = append(w.results, results[i].Result)
		select {
		case w.ready <- struct{}{}:
		default:
		}
	}
}

// Every submission gives exactly one result, so a waiter that has received them all is as good as
// new.
var idleWaiters = sync.Pool{New: func() any { return &waiter{ready: make(chan struct{}, 1)} }}

// register returns a waiter with a tag that was never used before.
func (q *queue) register() *waiter {
	w := idleWaiters.Get().(*waiter)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lastTag++
	w.tag = q.lastTag
	q.waiters[w.tag] = w
	return w
}

// unregister gives a waiter back that has nothing under way.
func (q *queue) unregister(w *waiter) {
	q.mu.Lock()
	delete(q.waiters, w.tag)
	q.mu.Unlock()
	select {
	case <-w.ready:
	default:
	}
	idleWaiters.Put(w)
}

// collect exchanges the results that w has received for an empty slice, whose room is used for
// the next ones.
func (q *queue) collect(w *waiter, empty []Result) []Result {
	q.mu.Lock()
	defer q.mu.Unlock()
	results := w.results
	w.results = empty
	return results
}

// only returns the result of a waiter that was made ready and had one submission under way.
func (w *waiter) only() Result {
	result := w.results[0]
	w.results = w.results[:0]
	return result
}

// cancel ends what is under way for a tag; the results arrive as always. It does nothing where
// nothing is left, so it may come late.
func (q *queue) cancel(tag uint64) { cancel(q.handle, tag) }
