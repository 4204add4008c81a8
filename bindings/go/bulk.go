//go:build cgo && (unix || windows)

package greenapi

import (
	"context"
	"iter"
)

// DeleteInstances deletes many instances and yields their results as they complete, in any order,
// failed ones too (see [Result.Err]). Every id taken from ids gives exactly one result.
//
// The goroutine of the loop takes the ids, only as fast as they are needed: at most twice as many
// as [WithMaxInFlight] allows are under way or yet to be yielded. A sequence that blocks holds up
// the results that complete meanwhile. Nothing starts before the loop does, and each loop over the
// returned sequence deletes anew.
//
// When ctx ends, the requests under way are cancelled, no further ids are taken, and the results
// of all ids taken so far are yielded: look at ctx.Err after the loop. So to stop half-way without
// losing a result, cancel ctx and let the loop go on. Leaving the loop cancels too, and loses the
// results of the ids under way; [Client.Deletions] keeps them.
func (c *Client) DeleteInstances(ctx context.Context, ids iter.Seq[int64]) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		c.Deletions(ctx, ids).run(yield)
	}
}

// Deletions prepares what [Client.DeleteInstances] does, as a value that keeps the results which a
// loop that was left has not seen. Nothing starts before the loop over [Deletions.Results].
func (c *Client) Deletions(ctx context.Context, ids iter.Seq[int64]) *Deletions {
	return &Deletions{client: c.open(), ctx: ctx, ids: ids}
}

// Deletions deletes many instances and can be stopped without losing a result. It is for one
// goroutine at a time; from another one, cancel the context.
type Deletions struct {
	client *client
	ctx    context.Context
	ids    iter.Seq[int64]

	state state
	// waiter is nil except while the loop runs.
	waiter   *waiter
	underWay uint64
	// results have completed; the loop has seen those before index next.
	results []Result
	next    int
}

type state int

const (
	fresh state = iota
	running
	stopped
)

// Results yields what [Client.DeleteInstances] does, to one loop: a second loop gets nothing.
// Leaving the loop by break, return or panic calls [Deletions.Stop].
func (d *Deletions) Results() iter.Seq[Result] { return d.run }

// Stop takes no further ids, cancels the requests under way, and at once returns the results that
// the loop has not seen: those of cancelled deletions, and of some that completed just before. So
// every id taken has had one result, here or in the loop. Stop may be called after the loop, and
// within the loop, which then ends. A second call returns nothing.
func (d *Deletions) Stop() []Result {
	d.stop()
	rest := d.results[d.next:]
	d.results, d.next = nil, 0
	return rest
}

func (d *Deletions) stop() {
	d.state = stopped
	if d.waiter == nil {
		return
	}
	if d.underWay > 0 {
		d.client.queue.cancel(d.waiter.tag)
	}
	for d.underWay > 0 {
		<-d.waiter.ready
		d.results = append(d.results, d.collect(nil)...)
	}
	d.client.queue.unregister(d.waiter)
	d.waiter = nil
}

// collect returns the results that have completed since the last call; for empty see queue.collect.
func (d *Deletions) collect(empty []Result) []Result {
	results := d.client.queue.collect(d.waiter, empty)
	d.underWay -= uint64(len(results))
	if d.ctx.Err() != nil {
		for i := range results {
			results[i] = results[i].interrupted(d.ctx)
		}
	}
	return results
}

func (d *Deletions) run(yield func(Result) bool) {
	if d.state != fresh || d.ids == nil {
		return
	}
	d.state = running
	// Also when the loop's body or ids panic.
	defer d.stop()

	if d.client == nil {
		for id := range d.ids {
			if !yield(closed(id)) || d.state != running {
				return
			}
		}
		return
	}
	queue := d.client.queue
	d.waiter = queue.register()
	tag, ready := d.waiter.tag, d.waiter.ready
	// Cancelled from here, because the loop's body and ids may be slow.
	unwatch := context.AfterFunc(d.ctx, func() { queue.cancel(tag) })
	defer unwatch()

	if d.ctx.Err() == nil {
		for id := range d.ids {
			if d.state != running || !d.take(id, yield) {
				return
			}
			if d.ctx.Err() != nil {
				break
			}
		}
	}
	for d.deliver(yield) && d.underWay > 0 {
		<-ready
	}
}

// take submits an id and yields completed results until there is room for the next id. It reports
// whether the loop goes on.
func (d *Deletions) take(id int64, yield func(Result) bool) bool {
	if d.ctx.Err() != nil {
		return yield(unsent(d.ctx, id)) && d.state == running
	}
	if failure := d.client.submit(id, d.waiter.tag); failure != nil {
		return yield(*failure) && d.state == running
	}
	d.underWay++
	if d.ctx.Err() != nil {
		// The id may have been submitted just after the others were cancelled.
		d.client.queue.cancel(d.waiter.tag)
	}
	for d.deliver(yield) {
		if d.underWay < d.client.window {
			return true
		}
		<-d.waiter.ready
	}
	return false
}

// deliver yields the completed results, and reports whether the loop goes on.
func (d *Deletions) deliver(yield func(Result) bool) bool {
	d.results, d.next = d.collect(d.results[:0]), 0
	for d.next < len(d.results) {
		d.next++
		if !yield(d.results[d.next-1]) || d.state != running {
			return false
		}
	}
	return true
}
