//go:build cgo && linux

package greenapi_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

func TestTenThousandGoroutinesTakeAHandfulOfThreads(t *testing.T) {
	const count = 10_000
	s := newStandin(t)
	s.instances(t, 1, count)
	s.fault(t, fields{"hold": true})
	c := s.client(t)
	before := procStatus(t, "Threads")

	var group sync.WaitGroup
	errs := make(chan error, count)
	for id := range int64(count) {
		group.Add(1)
		go func() {
			defer group.Done()
			_, err := c.DeleteInstance(context.Background(), 1+id)
			errs <- err
		}()
	}
	for deadline := time.Now().Add(20 * time.Second); waitingInDeleteInstance() < count; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d goroutines wait", waitingInDeleteInstance(), count)
		}
	}
	if threads := procStatus(t, "Threads"); threads > before+20 {
		t.Errorf("%d threads while %d goroutines wait, %d before", threads, count, before)
	}
	s.call(t, "DELETE", "/faults", nil, nil)
	s.release(t)
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if threads := procStatus(t, "Threads"); threads > before+20 {
		t.Errorf("%d threads after %d goroutines were answered at once, %d before", threads, count, before)
	}
	if got := s.deleted(t); len(got) != count {
		t.Errorf("%d were really deleted", len(got))
	}
}

var waiting = regexp.MustCompile(`\[select[^]]*\]:\n\S+bindings/go\.\(\*client\)\.deleteInstance\(`)

// waitingInDeleteInstance counts the goroutines that wait for a result.
func waitingInDeleteInstance() int {
	stacks := make([]byte, 32<<20)
	return len(waiting.FindAllIndex(stacks[:runtime.Stack(stacks, true)], -1))
}

func TestAChildProcessInheritsNoDescriptor(t *testing.T) {
	s := newStandin(t)
	c := newClient(t, s.HTTPS, s.Token, greenapi.WithCAFile(s.CAFile))
	if _, err := c.DeleteInstance(context.Background(), firstID); err != nil {
		t.Fatal(err)
	}
	got, err := childDescriptors()
	if err != nil {
		t.Fatal(err)
	}
	if got != descriptorsOfAnyChild {
		t.Errorf("the child has the descriptors %s; before the first call it had %s", got, descriptorsOfAnyChild)
	}
}

// descriptorsOfAnyChild are the descriptors that every child inherits: the parent of this program
// may have left more than three.
var descriptorsOfAnyChild, _ = childDescriptors()

func childDescriptors() (string, error) {
	output, err := exec.Command("ls", "/proc/self/fd").Output()
	return strings.Join(strings.Fields(string(output)), " "), err
}

func TestWithoutDescriptorsACallFailsAndTheNextWorks(t *testing.T) {
	s := newStandin(t)
	runChild(t, "no-descriptors", "GREENAPI_URL="+s.HTTP, "GREENAPI_TOKEN="+s.Token)
}

func init() {
	children["no-descriptors"] = func() error {
		url, token := os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN")
		// Go's runtime ends the program when it cannot set up its poller, so polling a file here makes
		// the runtime set it up before descriptors run short.
		reader, writer, err := os.Pipe()
		if err != nil {
			return err
		}
		defer func() { _ = writer.Close() }()
		defer func() { _ = reader.Close() }()
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		// From no free descriptor up, so that every step on the way to an answer fails once.
		for room := uint64(3); ; room++ {
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: room, Max: limit.Max}); err != nil {
				return err
			}
			err := greenapi.DeleteInstance(url, token, firstID)
			if err == nil {
				if room == 3 {
					return errors.New("it worked without a descriptor")
				}
				return nil
			}
			if !errors.Is(err, greenapi.ErrOutOfResources) {
				return fmt.Errorf("with room for %d descriptors: %w", room, err)
			}
			if room > 100 {
				return fmt.Errorf("with room for %d descriptors still: %w", room, err)
			}
		}
	}
}
