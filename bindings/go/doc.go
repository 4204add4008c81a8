// Package greenapi deletes instances of a GREEN-API partner account, and is certain about what
// it did: every call ends in a [Status] whose [Effect] says whether the instance is gone, was not
// deleted by the call, or may be gone.
//
// One deletion:
//
//	err := greenapi.DeleteInstance("https://api.green-api.com", token, 1101000001)
//	switch {
//	case err == nil: // the instance is gone
//	case errors.Is(err, greenapi.ErrNotFound): // there is no such instance, or no longer
//	case errors.Is(err, greenapi.ErrOutcomeUnknown): // call again: safe, and the result shows which
//	}
//
// Many deletions share a [Client], which may be used by any number of goroutines at once.
// [Client.DeleteInstance] takes a context and [Client.DeleteInstances] a sequence of ids of any
// length; [Client.Deletions] is the same for a loop that may be left half-way. [Client.Instances]
// lists the account's instances.
//
// # Errors
//
// Every error of this package is an [*Error]. Programs branch with [errors.Is] and the Err…
// variables: one for each status, and [ErrNotDeleted] and [ErrOutcomeUnknown] for the effects. The
// error of a call that its context ended also matches [context.Canceled] or
// [context.DeadlineExceeded], and its Effect shows whether the request may have been sent. No
// error, message or formatted value of this package contains the partner token.
//
// # Threads and goroutines
//
// Everything may be called from any goroutine at any time. A goroutine that waits for an answer
// occupies no operating system thread: a thread of the C library libgreenapi makes the requests,
// and Go's network poller waits for their results. The package keeps one goroutine and two file
// descriptors for that, from the first [NewClient] or [DeleteInstance] to the end of the process,
// however many clients come and go. All descriptors are close-on-exec.
//
// # Building
//
// The package needs cgo and the C library libgreenapi, found with pkg-config. With the build tag
// greenapi_static the library is linked into the program instead of loaded when it starts.
package greenapi
