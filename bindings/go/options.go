//go:build cgo && (unix || windows)

package greenapi

import (
	"fmt"
	"math"
	"time"
)

// Option changes how a [Client] works. [NewClient] refuses an invalid value with
// [StatusInvalidArgument] and a message that names the option.
type Option func(*options)

// options holds the options in the units of the C interface; nil is the default.
type options struct {
	timeoutMS         *uint32
	connectTimeoutMS  *uint32
	maxRetries        *uint32
	maxInFlight       *uint32
	requestsPerSecond *float64
	session           *Session
	allowHTTP         bool
	caFile            *string
	proxy             *string
	userAgent         *string
	caPEM             *string
	instanceURL       *string
	journal           *string

	// err is about the first value that the types of the C interface cannot hold.
	err error
}

func (o *options) refuse(format string, args ...any) {
	if o.err == nil {
		o.err = refused(0, StatusInvalidArgument, fmt.Sprintf(format, args...), nil).Err()
	}
}

// WithTimeout sets the time for a whole deletion, retries included, counted from the start of its
// first request. The default is 30 seconds. The time is rounded up to whole milliseconds, from 1 to
// 2³²−1, about 49 days. A context may end a call earlier.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.timeoutMS = o.milliseconds("WithTimeout", timeout) }
}

// WithConnectTimeout sets the time to connect, the TLS handshake included. The default is 10
// seconds; for its range see [WithTimeout].
func WithConnectTimeout(timeout time.Duration) Option {
	return func(o *options) { o.connectTimeoutMS = o.milliseconds("WithConnectTimeout", timeout) }
}

// WithMaxRetries sets how many more attempts follow a temporary failure. The default is 3; 0 means
// one attempt only.
func WithMaxRetries(retries int) Option {
	return func(o *options) { o.maxRetries = o.count("WithMaxRetries", retries) }
}

// WithMaxInFlight sets how many requests of this client are under way at once; further ones wait
// their turn. The default is 64, the least 1.
func WithMaxInFlight(requests int) Option {
	return func(o *options) { o.maxInFlight = o.count("WithMaxInFlight", requests) }
}

// WithRequestsPerSecond sets the pace at which this client starts requests. The default is 0: no
// limit.
func WithRequestsPerSecond(rate float64) Option {
	return func(o *options) { o.requestsPerSecond = &rate }
}

// Session is a policy for devices that are still logged in to an instance: see [WithSession].
type Session uint32

const (
	// SessionIgnore deletes without asking for the state. An active session then stays on somebody's
	// phone. This is the default, because it is exactly the documented call.
	SessionIgnore Session = 0
	// SessionRequireLoggedOut deletes only an instance whose state is notAuthorized, and ends in
	// [StatusSessionActive] otherwise, or in [StatusSessionUnknown] if the instance is starting or
	// cannot be asked.
	SessionRequireLoggedOut Session = 1
	// SessionLogOut logs the device out if it is logged in, and deletes once that is confirmed.
	// Otherwise nothing is deleted: [StatusSessionActive].
	SessionLogOut Session = 2
	// SessionTryLogOut logs the device out where possible, and deletes in any case once the API
	// (not a proxy or a firewall) has answered the logout, or said that the instance cannot be
	// asked (expired, being created, starting).
	SessionTryLogOut Session = 3
)

// WithSession sets what to do about a device that is still logged in. The default is
// [SessionIgnore].
func WithSession(session Session) Option {
	return func(o *options) { o.session = &session }
}

// WithAllowHTTP permits URLs that begin with http:// for any host, not only for loopback. The
// partner token then travels in clear.
func WithAllowHTTP() Option {
	return func(o *options) { o.allowHTTP = true }
}

// WithCAFile sets a file of PEM certificates to trust instead of the system's.
func WithCAFile(path string) Option {
	return func(o *options) { o.caFile = &path }
}

// WithCACertificates sets PEM certificates to trust instead of the system's. It excludes
// [WithCAFile].
func WithCACertificates(pem []byte) Option {
	text := string(pem)
	return func(o *options) { o.caPEM = &text }
}

// WithProxy sets the proxy: an http, https or socks5 URL, with user and password in it where the
// proxy asks for them. An empty one means no proxy. The default is what the environment says
// (HTTPS_PROXY, NO_PROXY).
func WithProxy(url string) Option {
	return func(o *options) { o.proxy = &url }
}

// WithUserAgent puts a product name, such as "my-tool/1.2", before the library's own in the
// User-Agent header.
func WithUserAgent(userAgent string) Option {
	return func(o *options) { o.userAgent = &userAgent }
}

// WithInstanceURL sets the URL at which [WithSession] and [WithStates] ask an instance itself for its
// state and its logout. {pool} in the URL stands for the first four digits of the instance's id, as
// in https://{pool}.api.greenapi.com. The default is the client's own URL. The instance's token is
// sent nowhere else.
func WithInstanceURL(url string) Option {
	return func(o *options) { o.instanceURL = &url }
}

// WithJournal sets the path of a journal: a file in which each deletion is noted durably before its
// request may be sent, and its end after, so that a later process knows what this process did.
// Deletions that the journal confirms are not sent again; those that it leaves open are, and end in
// [StatusGone] if the instance is then not found. The file is created if there is none. One process
// at a time holds the journal, with any number of clients of one address. Use another file for each
// account.
func WithJournal(path string) Option {
	return func(o *options) { o.journal = &path }
}

// milliseconds rounds up, so that a short time does not become 0.
func (o *options) milliseconds(option string, d time.Duration) *uint32 {
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	if d < 0 || ms > math.MaxUint32 {
		o.refuse("%s: %v is out of range: give 1ms to %v.", option, d, math.MaxUint32*time.Millisecond)
		return nil
	}
	value := uint32(ms)
	return &value
}

func (o *options) count(option string, n int) *uint32 {
	if n < 0 || uint64(n) > math.MaxUint32 {
		o.refuse("%s: %d is out of range: give at most %d, and nothing negative.", option, n, uint32(math.MaxUint32))
		return nil
	}
	value := uint32(n)
	return &value
}
