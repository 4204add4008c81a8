//go:build cgo

package greenapi

/*
#cgo CFLAGS: -D_WIN32_WINNT=0x0601
#cgo LDFLAGS: -lws2_32

#include <winsock2.h>

// A datagram socket that is connected to itself: what is sent makes it readable.
static SOCKET new_wake(void) {
	struct sockaddr_in here = {.sin_family = AF_INET};
	int size = sizeof here;
	SOCKET wake = WSASocketW(AF_INET, SOCK_DGRAM, 0, NULL, 0, 0);
	if (wake == INVALID_SOCKET) {
		return wake;
	}
	here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (!SetHandleInformation((HANDLE)wake, HANDLE_FLAG_INHERIT, 0) ||
		bind(wake, (struct sockaddr *)&here, size) != 0 ||
		getsockname(wake, (struct sockaddr *)&here, &size) != 0 ||
		connect(wake, (struct sockaddr *)&here, size) != 0) {
		closesocket(wake);
		return INVALID_SOCKET;
	}
	return wake;
}

static void set_wake(SOCKET wake) {
	send(wake, "", 1, 0);
}

// Waits until one of the two is readable. Returns 0 or an error of Winsock.
static int wait_readable(SOCKET watched, SOCKET wake, int *woken) {
	for (;;) {
		WSAPOLLFD polled[] = {{.fd = watched, .events = POLLRDNORM}, {.fd = wake, .events = POLLRDNORM}};
		if (WSAPoll(polled, 2, -1) >= 0) {
			*woken = polled[1].revents != 0;
			return 0;
		}
		if (WSAGetLastError() != WSAENOBUFS) {
			return WSAGetLastError();
		}
		// Memory that is short now is not short for ever, and nobody else would wait for the results.
		Sleep(1);
	}
}
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
)

// watch waits until a socket of the library is readable. Go's network poller takes no foreign
// socket on Windows, so a goroutine that waits occupies a thread: one for the process's queue, and
// one for each list that waits.
type watch struct {
	watched descriptor
	wake    C.SOCKET
	// mu keeps interrupt from writing to a socket that is closed, whose number may be another's.
	mu     sync.Mutex
	closed bool
}

var errInterrupted = errors.New("the wait was interrupted")

func newWatch(of string, fd descriptor) (*watch, error) {
	wake := C.new_wake()
	if wake == C.INVALID_SOCKET {
		return nil, refused(0, StatusOutOfResources,
			fmt.Sprintf("There is no socket to watch the %s with: close some.", of), nil).Err()
	}
	return &watch{watched: fd, wake: wake}, nil
}

// wait calls take until take returns true, first at once and then each time that the socket is
// readable.
func (w *watch) wait(take func() bool) error {
	for !take() {
		var woken C.int
		if failed := C.wait_readable(C.SOCKET(w.watched), w.wake, &woken); failed != 0 {
			return syscall.Errno(failed)
		}
		if woken != 0 {
			return errInterrupted
		}
	}
	return nil
}

// interrupt ends the wait, and each later one, with an error. Callable from any goroutine.
func (w *watch) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		C.set_wake(w.wake)
	}
}

// close ends the watch, in which nobody waits any more.
func (w *watch) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	C.closesocket(w.wake)
}
