//go:build cgo && (unix || windows)

package greenapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// Error is a call that did not end in [EffectDeleted]. Every error of this package is an *Error.
type Error struct {
	// ID is the instance; 0 when the error is not about one.
	ID int64
	// Status is what happened.
	Status Status
	// Code is the API's own code when its answer had one, else the HTTP status, else 0.
	Code int
	// HTTPStatus is the HTTP status of the answer that determined the status. 0: there was no
	// answer, or the status follows from an answer without an error to a question of the session
	// policy (the list, a state).
	HTTPStatus int
	// Attempts counts the deletion requests that may have been sent, retries included.
	Attempts int
	// Message says what happened and what to do.
	Message string

	// cause is what made Go end the call: the context's errors, ErrClosed or
	// ErrLibraryVersion; nil when the library ended it.
	cause error
}

// Error returns the message, the instance, and the errors of the context if its end was the reason.
// It contains no token, unless the caller put one into the cause of a context.
func (e *Error) Error() string {
	text := "greenapi: "
	if e.ID != 0 {
		text += fmt.Sprintf("instance %d: ", e.ID)
	}
	text += e.message()
	if why, ok := e.cause.(contextError); ok {
		text += " (" + why.Error() + ")"
	}
	return text
}

func (e *Error) message() string {
	switch {
	case e.Message != "":
		return e.Message
	case e.Status.Effect() == EffectDeleted:
		return noResult
	default:
		return e.Status.Message()
	}
}

// noResult stands in for the message of an error that says that the instance is gone, as the zero
// Error and the error of the zero Result do: no call ends in one.
const noResult = "No result: this value did not come from a call, so what happened is unknown."

// Effect returns what the status means for the instance: [EffectNotDeleted] or [EffectUnknown].
// It is never [EffectDeleted].
func (e *Error) Effect() Effect {
	if effect := e.Status.Effect(); effect != EffectDeleted {
		return effect
	}
	return EffectUnknown
}

// LogValue gives log/slog the fields one by one.
func (e *Error) LogValue() slog.Value {
	if e == nil {
		return slog.AnyValue(nil)
	}
	return logValue(*e, e.Effect())
}

// Is reports whether target is the error variable of e's status or of its effect. A
// [StatusTimeout] also matches [context.DeadlineExceeded], as a timeout of net/http does.
func (e *Error) Is(target error) bool {
	switch target := target.(type) {
	case statusError:
		return e.Status == Status(target)
	case effectError:
		return e.Effect() == Effect(target)
	default:
		return target == context.DeadlineExceeded && e.Status == StatusTimeout
	}
}

// Unwrap returns, for a call that its context ended, an error that [errors.Is] matches with both
// the context's error and its [context.Cause]; else [ErrClosed], [ErrLibraryVersion] or nil.
func (e *Error) Unwrap() error { return e.cause }

// Timeout reports whether the timeout of the client ([WithTimeout]) or the deadline of the context
// ended the call. With Temporary it makes *Error a [net.Error].
func (e *Error) Timeout() bool {
	return e.Status == StatusTimeout || errors.Is(e.cause, context.DeadlineExceeded)
}

// Temporary returns what Timeout does. [net.Error] requires it; programs should look at the status.
func (e *Error) Temporary() bool { return e.Timeout() }

// statusError is an error variable that stands for a status.
type statusError Status

func (s statusError) Error() string { return "greenapi: " + Status(s).Message() }

// effectError is an error variable that stands for an effect.
type effectError Effect

func (e effectError) Error() string { return "greenapi: effect: " + Effect(e).String() }

// Errors by effect, for [errors.Is].
var (
	// ErrNotDeleted: this call deleted nothing (statuses 10 to 29).
	ErrNotDeleted error = effectError(EffectNotDeleted)
	// ErrOutcomeUnknown: the instance may or may not have been deleted (statuses from 30).
	// Calling again with the same id is safe, and its result shows which.
	ErrOutcomeUnknown error = effectError(EffectUnknown)
)

// Errors by status, for [errors.Is]. Each is explained at its [Status].
var (
	ErrNotFound          error = statusError(StatusNotFound)
	ErrUnauthorized      error = statusError(StatusUnauthorized)
	ErrForbidden         error = statusError(StatusForbidden)
	ErrRateLimited       error = statusError(StatusRateLimited)
	ErrRejected          error = statusError(StatusRejected)
	ErrSessionActive     error = statusError(StatusSessionActive)
	ErrSessionUnknown    error = statusError(StatusSessionUnknown)
	ErrInvalidArgument   error = statusError(StatusInvalidArgument)
	ErrConnectFailed     error = statusError(StatusConnectFailed)
	ErrTLSFailed         error = statusError(StatusTLSFailed)
	ErrCancelled         error = statusError(StatusCancelled)
	ErrOutOfResources    error = statusError(StatusOutOfResources)
	ErrUnprocessed       error = statusError(StatusUnprocessed)
	ErrNotStarted        error = statusError(StatusNotStarted)
	ErrTimeout           error = statusError(StatusTimeout)
	ErrConnectionLost    error = statusError(StatusConnectionLost)
	ErrServerError       error = statusError(StatusServerError)
	ErrBadResponse       error = statusError(StatusBadResponse)
	ErrCancelledInFlight error = statusError(StatusCancelledInFlight)
	ErrInternal          error = statusError(StatusInternal)
)

// Errors of the package itself, for [errors.Is]. Their status is [StatusInvalidArgument].
var (
	// ErrClosed: the client was used after Close.
	ErrClosed = errors.New("greenapi: the client is closed")
	// ErrLibraryVersion: the libgreenapi that was loaded is of another release series than this
	// package.
	ErrLibraryVersion = errors.New("greenapi: libgreenapi is of another release series than the Go package")
)

// Result is how one deletion ended, successfully or not.
type Result struct {
	// ID is the instance.
	ID int64
	// Status is what happened.
	Status Status
	// Code is the API's own code when its answer had one, else the HTTP status, else 0: 200
	// after a deletion.
	Code int
	// HTTPStatus is the HTTP status of the answer that determined the status. 0: there was no
	// answer, or the status follows from an answer without an error to a question of the session
	// policy (the list, a state).
	HTTPStatus int
	// Attempts counts the deletion requests that may have been sent, retries included.
	Attempts int
	// Message says what happened and, after a failure, what to do.
	Message string

	// cause is that of Error.
	cause error
}

// Effect returns what the result means for the instance: the effect of its status. A result without
// an ID, such as Result{}, is about no instance: its effect is unknown, unless nothing was sent.
func (r Result) Effect() Effect {
	if r.ID == 0 && !r.Status.unsent() {
		return EffectUnknown
	}
	return r.Status.Effect()
}

// Err returns nil when the instance is gone ([EffectDeleted]) and the *[Error] otherwise.
func (r Result) Err() error {
	if r.Effect() == EffectDeleted {
		return nil
	}
	e := Error(r)
	return &e
}

// LogValue gives log/slog the fields one by one.
func (r Result) LogValue() slog.Value { return logValue(Error(r), r.Effect()) }

func logValue(e Error, effect Effect) slog.Value {
	status, message := e.Status.String(), e.Message
	if e.Status.Effect() == EffectDeleted && effect != EffectDeleted {
		// A log must not say OK of what has no result.
		status, message = unknownStatus, e.message()
	}
	attrs := []slog.Attr{
		slog.Int64("id", e.ID),
		slog.String("status", status),
		slog.String("effect", effect.String()),
		slog.Int("code", e.Code),
		slog.Int("http_status", e.HTTPStatus),
		slog.Int("attempts", e.Attempts),
		slog.String("message", message),
	}
	if e.cause != nil {
		attrs = append(attrs, slog.String("cause", e.cause.Error()))
	}
	return slog.GroupValue(attrs...)
}

// refused is the result of a call that does not reach the library.
func refused(id int64, status Status, message string, cause error) Result {
	return Result{ID: id, Status: status, Message: message, cause: cause}
}

// contextError is the error of a context, and its cause where that is another one.
type contextError struct{ err, cause error }

func (c contextError) Error() string {
	if c.cause == c.err {
		return c.err.Error()
	}
	return c.err.Error() + ": " + c.cause.Error()
}

func (c contextError) Unwrap() []error { return []error{c.err, c.cause} }

// interrupted is r with the context's errors as its cause if the status is one to which only
// cancellation leads.
func (r Result) interrupted(ctx context.Context) Result {
	if r.Status == StatusCancelled || r.Status == StatusCancelledInFlight {
		r.cause = contextError{ctx.Err(), context.Cause(ctx)}
	}
	return r
}
