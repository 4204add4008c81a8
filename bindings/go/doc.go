// Package greenapi deletes instances of a GREEN-API partner account, and is certain about what
// it did: every call ends in a [Status] whose [Effect] says whether the instance is gone, whether
// nothing was deleted, or whether that cannot be known.
//
// One deletion:
//
//	err := greenapi.DeleteInstance("https://api.green-api.com", token, 1101000001)
//	switch {
//	case err == nil: // the instance is gone
//	case errors.Is(err, greenapi.ErrNotFound): // there is no such instance, or no longer
//	case errors.Is(err, greenapi.ErrOutcomeUnknown): // call again with the same id: safe, and tells
//	}
//
// Many deletions share a [Client], which may be used by any number of goroutines at once.
// [Client.DeleteInstance] takes a context and [Client.DeleteInstances] a sequence of ids of any
// length; [Client.Deletions] is the same for a loop that may be left half-way. [Client.Instances]
// lists what there is to delete.
//
// # Errors
//
// Every error of this package is an [*Error]. Programs branch with [errors.Is] and the Err…
// variables: one for each status, and [ErrNotDeleted] and [ErrOutcomeUnknown] for what the
// statuses have in common. A call ended by its context also matches [context.Canceled] or
// [context.DeadlineExceeded], and still tells by its Effect whether the request may have been
// sent. No error, message or formatted value of this package contains the partner token.
//
// # Threads and goroutines
//
// Everything may be called from any goroutine at any time. A goroutine that waits for an answer
// takes no operating system thread: the requests are made by the thread of the C library
// libgreenapi, and their results are awaited through Go's network poller. For that one goroutine
// and two file descriptors are kept from the first [NewClient] or [DeleteInstance] to the end of
// the process, however many clients come and go. All descriptors are close-on-exec.
//
// # Building
//
// The package needs cgo and the C library libgreenapi, found with pkg-config. With the build tag
// greenapi_static the library is linked into the program instead of loaded when it starts.
package greenapi
