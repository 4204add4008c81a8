//go:build cgo && (unix || windows)

package greenapi

// This file converts between the types of greenapi.h and Go's; beside it only the watches use C.

// #include <greenapi.h>
import "C"

import (
	"fmt"
	"runtime"
	"strings"
	"time"
	"unsafe"
)

func libraryVersion() string { return C.GoString(C.greenapi_version()) }

func statusName(s Status) string { return C.GoString(C.greenapi_status_name(C.int32_t(s))) }

func statusMessage(s Status) string {
	return C.GoString(C.greenapi_status_message(C.int32_t(s)))
}

// clientHandle is a client of the library, freed with freeClient, which ignores nil.
type clientHandle = *C.greenapi_client

// newClient also returns the client's max_in_flight, because only the library knows its default.
func newClient(url, token string, o *options) (clientHandle, uint32, error) {
	var strs cStrings
	defer strs.pinner.Unpin()

	var c C.greenapi_options
	C.greenapi_options_init(&c, C.size_t(unsafe.Sizeof(c)))
	setUint32(&c.timeout_ms, o.timeoutMS)
	setUint32(&c.connect_timeout_ms, o.connectTimeoutMS)
	setUint32(&c.max_retries, o.maxRetries)
	setUint32(&c.max_in_flight, o.maxInFlight)
	if o.requestsPerSecond != nil {
		c.requests_per_second = C.double(*o.requestsPerSecond)
	}
	if o.session != nil {
		c.session = C.uint32_t(*o.session)
	}
	if o.allowHTTP {
		c.flags |= C.GREENAPI_FLAG_ALLOW_HTTP
	}
	if o.caFile != nil {
		c.ca_file = strs.add("WithCAFile", *o.caFile)
	}
	if o.proxy != nil {
		c.proxy = strs.add("WithProxy", *o.proxy)
	}
	if o.userAgent != nil {
		c.user_agent = strs.add("WithUserAgent", *o.userAgent)
	}
	if o.caPEM != nil {
		c.ca_pem = strs.add("WithCACertificates", *o.caPEM)
	}
	if o.instanceURL != nil {
		c.instance_url = strs.add("WithInstanceURL", *o.instanceURL)
	}
	if o.journal != nil {
		c.journal = strs.add("WithJournal", *o.journal)
	}
	cURL, cToken := strs.add("url", url), strs.add("token", token)
	if strs.err != nil {
		return nil, 0, strs.err
	}

	var handle clientHandle
	var failure C.greenapi_result
	if C.greenapi_client_new(cURL, cToken, &c, &handle, &failure) != C.GREENAPI_STATUS_OK {
		return nil, 0, refusal(toResult(&failure)).Err()
	}
	return handle, uint32(c.max_in_flight), nil
}

func freeClient(handle clientHandle) { C.greenapi_client_free(handle) }

func setUint32(field *C.uint32_t, value *uint32) {
	if value != nil {
		*field = C.uint32_t(*value)
	}
}

// cStrings are copies for C in Go's memory, which stay in their places until they are unpinned. They
// are not in C's memory, because C.CString ends the process if that runs out.
type cStrings struct {
	pinner runtime.Pinner
	err    error
}

// add copies a string. C would cut the string at a NUL byte, so such a string is refused; the
// message omits the string, because it may be a secret.
func (s *cStrings) add(argument, value string) *C.char {
	if strings.IndexByte(value, 0) >= 0 {
		if s.err == nil {
			s.err = refused(0, StatusInvalidArgument, argument+" contains a NUL byte: remove it.", nil).Err()
		}
		return nil
	}
	c := make([]byte, len(value)+1)
	copy(c, value)
	s.pinner.Pin(&c[0])
	return (*C.char)(unsafe.Pointer(&c[0]))
}

// queueHandle is a queue of the library. There is one, which lives as long as the process.
type queueHandle = *C.greenapi_queue

// descriptor is what event loops watch: an int on Unix, a SOCKET on Windows.
type descriptor = C.greenapi_fd

func newQueue() (queueHandle, *watch, error) {
	var handle queueHandle
	if status := Status(C.greenapi_queue_new(&handle)); status != StatusOK {
		return nil, nil, refused(0, status, status.Message(), nil).Err()
	}
	watch, err := newWatch("queue", C.greenapi_queue_fd(handle))
	if err != nil {
		C.greenapi_queue_free(handle)
		return nil, nil, err
	}
	return handle, watch, nil
}

// unwatchable is the error for a descriptor that the system refuses to watch.
func unwatchable(of string, err error) error {
	return refused(0, StatusOutOfResources,
		fmt.Sprintf("The %s's descriptor cannot be watched (%v).", of, err), nil).Err()
}

func submit(queue queueHandle, client clientHandle, id int64, tag uint64) Status {
	return Status(C.greenapi_queue_submit(queue, client, C.int64_t(id), C.uint64_t(tag)))
}

func cancel(queue queueHandle, tag uint64) { C.greenapi_queue_cancel(queue, C.uint64_t(tag)) }

// tagged is a result with the tag that it was submitted under.
type tagged struct {
	tag uint64
	Result
}

// batch receives many results in one call. It has no pointers, so C may write to it.
type batch [256]C.greenapi_result

// take appends the results that wait in the queue, without waiting for more.
func (b *batch) take(queue queueHandle, results []tagged) []tagged {
	count := C.greenapi_queue_take(queue, &b[0], C.size_t(len(b)), 0)
	for i := range b[:count] {
		results = append(results, tagged{uint64(b[i].tag), toResult(&b[i])})
	}
	return results
}

func toResult(r *C.greenapi_result) Result {
	return Result{
		ID:         int64(r.id),
		Status:     Status(r.status),
		Code:       int(r.code),
		HTTPStatus: int(r.http_status),
		Attempts:   int(r.attempts),
		Message:    C.GoString(&r.message[0]),
	}
}

// list is a list of instances under way.
type list struct {
	handle *C.greenapi_list
	watch  *watch
	batch  [64]C.greenapi_instance
	page   []Instance
}

func newList(client clientHandle, states bool) (*list, error) {
	var flags C.uint32_t
	if states {
		flags = C.GREENAPI_LIST_STATES
	}
	var l list
	var failure C.greenapi_result
	if C.greenapi_client_list_instances(client, flags, &l.handle, &failure) != C.GREENAPI_STATUS_OK {
		return nil, toResult(&failure).Err()
	}
	watch, err := newWatch("list", C.greenapi_list_fd(l.handle))
	if err != nil {
		C.greenapi_list_free(l.handle)
		return nil, err
	}
	l.watch = watch
	return &l, nil
}

func (l *list) close() {
	l.watch.close()
	C.greenapi_list_free(l.handle)
}

// take returns the instances that have come, without waiting; they are valid until the next call.
func (l *list) take() []Instance {
	count := C.greenapi_list_take(l.handle, &l.batch[0], C.size_t(len(l.batch)), 0)
	l.page = l.page[:0]
	for i := range l.batch[:count] {
		one := &l.batch[i]
		l.page = append(l.page, Instance{
			ID:        int64(one.id),
			Type:      C.GoString(&one._type[0]),
			Name:      C.GoString(&one.name[0]),
			Tariff:    C.GoString(&one.tariff[0]),
			State:     State(one.state),
			CreatedAt: toTime(one.created),
			DeletedAt: toTime(one.deleted),
			ExpiresAt: toTime(one.expires),
			Deleted:   one.flags&C.GREENAPI_INSTANCE_DELETED != 0,
			Expired:   one.flags&C.GREENAPI_INSTANCE_EXPIRED != 0,
			Free:      one.flags&C.GREENAPI_INSTANCE_FREE != 0,
			Partner:   one.flags&C.GREENAPI_INSTANCE_PARTNER != 0,
		})
	}
	return l.page
}

// ended returns how the list ended, or nil while more may come.
func (l *list) ended() *Result {
	var result C.greenapi_result
	if !C.greenapi_list_ended(l.handle, &result) {
		return nil
	}
	end := toResult(&result)
	return &end
}

func toTime(seconds C.int64_t) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}
