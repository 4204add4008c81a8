//go:build cgo && unix

package greenapi

/*
#include <fcntl.h>

// fcntl is variadic, which cgo cannot call.
static int duplicate_descriptor(int fd) {
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}
*/
import "C"

import (
	"fmt"
	"os"
	"syscall"
	"time"
)

// watch waits until a descriptor of the library is readable, in Go's network poller: a goroutine
// that waits occupies no thread.
type watch struct {
	file *os.File
	conn syscall.RawConn
}

// newWatch watches a duplicate, because Go's poller closes the descriptors that it watches, and the
// library's own must stay open.
func newWatch(of string, fd descriptor) (*watch, error) {
	own, err := C.duplicate_descriptor(C.int(fd))
	if own < 0 {
		return nil, refused(0, StatusOutOfResources,
			fmt.Sprintf("The %s's descriptor cannot be duplicated (%v): close some, or raise the limit.", of, err), nil).Err()
	}
	file := os.NewFile(uintptr(own), "greenapi "+of)
	conn, err := file.SyscallConn()
	if err == nil {
		// Deadlines work exactly when the poller has accepted the descriptor.
		err = file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = file.Close()
		return nil, unwatchable(of, err)
	}
	return &watch{file, conn}, nil
}

// wait calls take until take returns true, first at once and then each time that the descriptor
// becomes readable. The poller reports each change only once, so take returns false only when it
// has left nothing behind.
func (w *watch) wait(take func() bool) error {
	return w.conn.Read(func(uintptr) bool { return take() })
}

// interrupt ends the wait, and each later one, with an error. Callable from any goroutine.
func (w *watch) interrupt() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) }

// close ends the watch, in which nobody waits any more.
func (w *watch) close() { _ = w.file.Close() }
