//go:build cgo && (unix || windows)

package greenapi_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

func TestClosingTwiceIsFineAndUseAfterwardsIsAnError(t *testing.T) {
	s := newStandin(t)
	c := s.client(t)
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	result, err := c.DeleteInstance(context.Background(), firstID)
	if !errors.Is(err, greenapi.ErrClosed) || !errors.Is(err, greenapi.ErrNotDeleted) || result.ID != firstID {
		t.Errorf("got %+v, %v", result, err)
	}
	for result := range c.DeleteInstances(context.Background(), slices.Values([]int64{firstID})) {
		if err := result.Err(); !errors.Is(err, greenapi.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	if got := s.stats(t).Connections.Accepted; got != 0 {
		t.Errorf("%d connections were made", got)
	}
}

func TestClosingLeavesCallsUnderWayAlone(t *testing.T) {
	s := newStandin(t)
	c := s.client(t)
	done := deleteHeld(t, context.Background(), s, c)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s.release(t)
	if got := within(t, 10*time.Second, done); got.err != nil || got.result.Status != greenapi.StatusOK {
		t.Errorf("got %+v, %v", got.result, got.err)
	}
}

// descriptors lists the targets of this process's descriptors.
func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		// The descriptor of the listing itself is closed by now.
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil {
			all = append(all, entry.Name()+" "+target)
		}
	}
	return all
}

func TestADroppedClientLeavesNothingBehind(t *testing.T) {
	s := newStandin(t)
	s.instances(t, 1, 100)
	// The first client opens the descriptors that the process keeps.
	if _, err := s.client(t).DeleteInstance(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	open := s.stats(t).Connections.Open

	for i := range int64(20) {
		// With certificates of its own, so that the client shares no connections.
		c, err := greenapi.NewClient(s.HTTPS, s.Token, greenapi.WithCAFile(s.CAFile),
			greenapi.WithUserAgent(fmt.Sprintf("dropped/%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.DeleteInstance(context.Background(), 2+2*i); err != nil {
			t.Fatal(err)
		}
		for range c.DeleteInstances(context.Background(), idRange(3+2*i, 1)) {
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for s.stats(t).Connections.Open > open || len(descriptors(t)) > len(before) {
		if time.Now().After(deadline) {
			t.Fatalf("left behind: connections %+v, descriptors %q, where there were %d and %q",
				s.stats(t).Connections, descriptors(t), open, before)
		}
		runtime.GC() // which also gives the finalizers' goroutine its turn
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	own := regexp.MustCompile(`created by \S+bindings/go\.\S+`).FindAllString(string(stacks), -1)
	if len(own) != 1 {
		t.Errorf("the package's goroutines are at %q", own)
	}
	// The README names this function for leak detectors to ignore.
	if !strings.Contains(string(stacks), "github.com/greenapi/greenapi/bindings/go.(*queue).dispatch(") {
		t.Errorf("the package's goroutine is at %q", own)
	}
}

// residentKiB returns the memory of this process.
func residentKiB(t *testing.T) int {
	t.Helper()
	return procStatus(t, "VmRSS")
}

// procStatus returns a number from /proc/self/status.
func procStatus(t *testing.T, field string) (n int) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	if n == 0 {
		t.Fatalf("no %s in /proc/self/status", field)
	}
	return n
}

func TestStringsAreFreedOnEveryPath(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, opts := range map[string][]greenapi.Option{
		"accepted":            {greenapi.WithUserAgent(long)},
		"refused by library":  {greenapi.WithUserAgent(long), greenapi.WithMaxInFlight(0)},
		"refused by NUL byte": {greenapi.WithUserAgent(long), greenapi.WithProxy("\x00")},
	} {
		try := func() {
			if c, err := greenapi.NewClient("https://localhost", "gac.token", opts...); err == nil {
				_ = c.Close()
			}
		}
		try()
		before := residentKiB(t)
		for range 100 {
			try()
		}
		if grown := residentKiB(t) - before; grown > 50<<10 {
			t.Errorf("%s: %d KiB more after 100 calls with a string of 1024 KiB", name, grown)
		}
	}
}

// TestNoSecretInSight looks for any four characters of the token in a row, in everything that a
// program could print after each kind of failure.
func TestNoSecretInSight(t *testing.T) {
	const token = "gac.QvXzJkWqYhZpUwBnMxTf"
	s := newStandin(t, "--token", token)
	var printed []string
	look := func(values ...any) {
		for _, value := range values {
			printed = append(printed, fmt.Sprintf("%v %+v %#v %s", value, value, value, value))
		}
	}
	calls := map[string]fields{
		s.HTTP:                    {"status": 301, "headers": [][]string{{"Location", "/elsewhere"}}},
		s.HTTPS:                   nil,
		"https://nowhere.invalid": nil,
	}
	for _, url := range s.Traps {
		calls[url] = nil
	}
	for url, fault := range calls {
		if fault != nil {
			s.fault(t, fault)
		}
		c := newClient(t, url, token, greenapi.WithTimeout(300*time.Millisecond), greenapi.WithMaxRetries(0))
		result, err := c.DeleteInstance(context.Background(), firstID)
		if err == nil {
			t.Errorf("%s did not fail", url)
		}
		look(c, result, err)
	}
	for _, wrong := range []string{token + "\x00", token + "\n", token + "\xff"} {
		look(greenapi.DeleteInstance(s.HTTP, wrong, firstID))
	}
	look(greenapi.DeleteInstance("https://"+token+"\x00", token, firstID))
	for _, text := range printed {
		for i := len("gac."); i+4 <= len(token); i++ {
			if part := token[i : i+4]; strings.Contains(text, part) {
				t.Errorf("%q is in %q", part, text)
				break
			}
		}
	}
}
