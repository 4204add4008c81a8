//go:build cgo && (unix || windows)

package greenapi

import (
	"fmt"
	"strconv"
	"strings"
)

// Status is what happened to a call. The values never change; a newer library may add some.
type Status int32

// The instance is gone ([EffectDeleted]).
const (
	// StatusOK: the API confirmed the deletion.
	StatusOK Status = 0
	// StatusGone: the answer to an earlier attempt of the same call was lost or was a server
	// error, and a retry was told that there is no such instance: it is gone, most likely by
	// this call.
	StatusGone Status = 1
)

// Nothing was deleted by this call ([EffectNotDeleted]).
const (
	// StatusNotFound: the API knows no such instance, or it had been deleted before.
	StatusNotFound Status = 10
	// StatusUnauthorized: the partner token is wrong.
	StatusUnauthorized Status = 11
	// StatusForbidden: the token has no right to this instance.
	StatusForbidden Status = 12
	// StatusRateLimited: too many requests, and the retries are used up.
	StatusRateLimited Status = 13
	// StatusRejected: the API, or whatever answers at the URL, refused for another reason.
	StatusRejected Status = 14
	// StatusSessionActive: the policy given by [WithSession] forbade the deletion.
	StatusSessionActive Status = 15
	// StatusSessionUnknown: the policy given by [WithSession] could not be checked, so no
	// deletion was sent.
	StatusSessionUnknown Status = 16
	// StatusInvalidArgument: refused before anything was sent; the message names the argument.
	StatusInvalidArgument Status = 20
	// StatusConnectFailed: no connection could be made, so no request was sent, or each one that
	// was sent was refused unprocessed.
	StatusConnectFailed Status = 21
	// StatusTLSFailed: the certificate or the handshake failed, so no request was sent, or each one
	// that was sent was refused unprocessed.
	StatusTLSFailed Status = 22
	// StatusCancelled: cancelled before the request was sent.
	StatusCancelled Status = 23
	// StatusOutOfResources: memory, threads or descriptors ran out before the request was sent.
	StatusOutOfResources Status = 24
	// StatusUnprocessed: the server said that it did not process the request, and the retries are
	// used up.
	StatusUnprocessed Status = 25
	// StatusNotStarted: the turn of the call did not come within its timeout; nothing was sent.
	StatusNotStarted Status = 26
)

// The instance may or may not have been deleted ([EffectUnknown]). Calling again with the same id
// is safe, and its result shows which.
const (
	// StatusTimeout: no answer in time, after the request may have been sent.
	StatusTimeout Status = 30
	// StatusConnectionLost: the connection broke after the request may have been sent, and the
	// retries are used up.
	StatusConnectionLost Status = 31
	// StatusServerError: the server failed, and the retries are used up.
	StatusServerError Status = 32
	// StatusBadResponse: the response did not come from this API.
	StatusBadResponse Status = 33
	// StatusCancelledInFlight: cancelled after the request may have been sent.
	StatusCancelledInFlight Status = 34
	// StatusInternal: a defect in the library itself.
	StatusInternal Status = 40
)

// String returns the name of the status in the C interface, such as "GREENAPI_STATUS_NOT_FOUND".
func (s Status) String() string { return statusName(s) }

// Message returns what the status means, as one plain sentence. The messages of [Result] and
// [Error] say more about their call.
func (s Status) Message() string { return statusMessage(s) }

// Effect returns what a call that ended in this status did, also for a status that only a newer
// library knows: the tens show the effect.
func (s Status) Effect() Effect {
	switch {
	case 0 <= s && s < 10:
		return EffectDeleted
	case 10 <= s && s < 30:
		return EffectNotDeleted
	default:
		return EffectUnknown
	}
}

// unsent reports whether no request was sent.
func (s Status) unsent() bool { return 20 <= s && s < 30 }

const (
	statusPrefix  = "GREENAPI_STATUS_"
	unknownStatus = statusPrefix + "UNKNOWN"
)

// MarshalText returns what String does, or the number of a status that only a newer library knows.
func (s Status) MarshalText() ([]byte, error) {
	if name := s.String(); name != unknownStatus {
		return []byte(name), nil
	}
	return strconv.AppendInt(nil, int64(s), 10), nil
}

// UnmarshalText reads what MarshalText writes, and the name also without "GREENAPI_STATUS_".
func (s *Status) UnmarshalText(text []byte) error {
	if number, err := strconv.ParseInt(string(text), 10, 32); err == nil {
		*s = Status(number)
		return nil
	}
	name := statusPrefix + strings.TrimPrefix(string(text), statusPrefix)
	for status := Status(0); status < 100; status++ {
		if status.String() == name && name != unknownStatus {
			*s = status
			return nil
		}
	}
	return fmt.Errorf("greenapi: %q is no status", text)
}

// Effect is what a call did to the instance.
type Effect int32

const (
	// EffectUnknown: the instance may or may not have been deleted. Calling again with the same
	// id is safe, and its result shows which.
	EffectUnknown Effect = iota
	// EffectDeleted: the instance is gone.
	EffectDeleted
	// EffectNotDeleted: this call deleted nothing.
	EffectNotDeleted
)

// String returns "deleted", "not deleted" or "unknown".
func (e Effect) String() string {
	switch e {
	case EffectDeleted:
		return "deleted"
	case EffectNotDeleted:
		return "not deleted"
	default:
		return "unknown"
	}
}

// MarshalText returns what String does.
func (e Effect) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (e *Effect) UnmarshalText(text []byte) error {
	for _, effect := range []Effect{EffectUnknown, EffectDeleted, EffectNotDeleted} {
		if effect.String() == string(text) {
			*e = effect
			return nil
		}
	}
	return fmt.Errorf("greenapi: %q is no effect", text)
}
