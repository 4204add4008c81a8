//go:build cgo && (unix || windows)

package greenapi

import (
	"fmt"
	"sync"
)

// queue delivers the results of the library's queue to the goroutines that wait for them.
//
// A process has one queue: the tag of a result shows which waiter the result belongs to. So a
// client has no descriptor and no goroutine of its own.
type queue struct {
	handle queueHandle

	mu      sync.Mutex
	lastTag uint64
	waiters map[uint64]*waiter
}

// waiter receives the results of the submissions that were made for it.
type waiter struct {
	tag uint64
	// ready holds a token when there may be results. Its capacity is one, so that a delivery
	// never blocks.
	ready chan struct{}
	// results is guarded by the queue's mu until the last result has come.
	results []Result
}

var processQueue struct {
	mu    sync.Mutex
	queue *queue
}

// openQueue returns the process's queue. After a failure the next call tries again, because
// resources may be free then.
func openQueue() (*queue, error) {
	processQueue.mu.Lock()
	defer processQueue.mu.Unlock()
	if processQueue.queue != nil {
		return processQueue.queue, nil
	}
	handle, watch, err := newQueue()
	if err != nil {
		return nil, err
	}
	q := &queue{handle: handle, waiters: make(map[uint64]*waiter)}
	processQueue.queue = q
	go q.dispatch(watch)
	return q, nil
}

// dispatch delivers results for the life of the process.
func (q *queue) dispatch(watch *watch) {
	var b batch
	var results []tagged
	err := watch.wait(func() bool {
		for {
			results = b.take(q.handle, results[:0])
			if len(results) == 0 {
				return false
			}
			q.deliver(results)
		}
	})
	// Nothing closes the descriptor, so the wait cannot end. If it did, all callers would hang,
	// so this panics.
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

// A waiter can be reused once it has received the results of all its submissions.
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

// unregister returns a waiter that has nothing under way to the pool.
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

// collect exchanges the results that w has received for an empty slice, which the next results
// fill.
func (q *queue) collect(w *waiter, empty []Result) []Result {
	q.mu.Lock()
	defer q.mu.Unlock()
	results := w.results
	w.results = empty
	return results
}

// only returns the result of a waiter that is ready and had one submission under way.
func (w *waiter) only() Result {
	result := w.results[0]
	w.results = w.results[:0]
	return result
}

// cancel cancels the submissions with a tag; their results arrive as always. It has no effect when
// nothing with the tag is under way.
func (q *queue) cancel(tag uint64) { cancel(q.handle, tag) }
