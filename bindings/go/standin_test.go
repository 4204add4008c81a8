//go:build cgo && (unix || windows)

package greenapi_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

// standin is a running stand-in of the remote API, as its first line of output describes it.
type standin struct {
	HTTP       string            `json:"http"`
	HTTPS      string            `json:"https"`
	Control    string            `json:"control"`
	CAFile     string            `json:"ca_file"`
	Token      string            `json:"token"`
	ProxyHTTP  string            `json:"proxy_http"`
	Traps      map[string]string `json:"traps"`
	cmd        *exec.Cmd
	closeStdin func() error
}

// firstID is the first of the instances that a stand-in begins with; every other one, beginning
// with this one, is authorized.
const firstID int64 = 1101000001

// errNoStandin is shown when somebody tests this package as a dependency.
var errNoStandin = errors.New("needs GREENAPI_STANDIN, the path of the greenapi-standin program: " +
	"`cargo build -p greenapi-standin` at the root of greenapi's repository builds it")

func startStandin(arguments ...string) (*standin, error) {
	program := os.Getenv("GREENAPI_STANDIN")
	if program == "" {
		return nil, errNoStandin
	}
	cmd := exec.Command(program, arguments...)
	cmd.Stderr = os.Stderr
	// The stand-in ends with its input, so that none is left behind when a test is killed.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("GREENAPI_STANDIN: %w", err)
	}
	s := &standin{cmd: cmd, closeStdin: stdin.Close}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, s)
	}
	if err != nil {
		_ = s.stop()
		return nil, fmt.Errorf("the stand-in's first line: %w", err)
	}
	return s, nil
}

func (s *standin) stop() error {
	return errors.Join(s.closeStdin(), s.cmd.Wait())
}

// newStandin starts a stand-in of the test's own.
func newStandin(t testing.TB, arguments ...string) *standin {
	t.Helper()
	s, err := startStandin(arguments...)
	if err == errNoStandin {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the stand-in ended badly: %v", err)
		}
	})
	return s
}

// Connections to the control interface are not kept: tests count descriptors.
var control = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (s *standin) call(t testing.TB, method, path string, body, answer any) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(method, s.Control+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	response, err := control.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err = io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %s", method, path, response.Status, data)
	}
	if answer != nil {
		if err := json.Unmarshal(data, answer); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, data)
		}
	}
}

// fields is a JSON object.
type fields map[string]any

// fault applies a fault to every deletion; more restricts the rule, such as fields{"times": 1}.
func (s *standin) fault(t testing.TB, fault fields, more ...fields) {
	t.Helper()
	rule := fields{"method": "delete", "fault": fault}
	for _, m := range more {
		for name, value := range m {
			rule[name] = value
		}
	}
	s.call(t, "POST", "/faults", []fields{rule}, nil)
}

// instances adds count instances from first on, all logged out.
func (s *standin) instances(t testing.TB, first int64, count int) {
	t.Helper()
	s.call(t, "POST", "/instances", fields{"first": first, "count": count, "state": "notAuthorized"}, nil)
}

// wait waits until a condition such as "held=1&open=1" holds, for at most 30 seconds.
func (s *standin) wait(t testing.TB, condition string) {
	t.Helper()
	s.call(t, "GET", "/wait?"+condition, nil, nil)
}

// release resumes the held requests.
func (s *standin) release(t testing.TB) {
	t.Helper()
	s.call(t, "POST", "/release", nil, nil)
}

// deleted returns the ids in the stand-in's ledger, sorted.
func (s *standin) deleted(t testing.TB) []int64 {
	t.Helper()
	var ledger []struct{ ID int64 }
	s.call(t, "GET", "/ledger", nil, &ledger)
	ids := make([]int64, len(ledger))
	for i, row := range ledger {
		ids[i] = row.ID
	}
	slices.Sort(ids)
	return ids
}

// stats are the stand-in's counters that tests use.
type stats struct {
	Connections struct{ Accepted, Open int }
	Received    int
	LastHead    string `json:"last_head"`
	Proxies     map[string]struct{ Tunnels int }
}

func (s *standin) stats(t testing.TB) (stats stats) {
	t.Helper()
	s.call(t, "GET", "/stats", nil, &stats)
	return stats
}

// client returns a client of the stand-in over plain HTTP.
func (s *standin) client(t testing.TB, opts ...greenapi.Option) *greenapi.Client {
	t.Helper()
	return newClient(t, s.HTTP, s.Token, opts...)
}

func newClient(t testing.TB, url, token string, opts ...greenapi.Option) *greenapi.Client {
	t.Helper()
	c, err := greenapi.NewClient(url, token, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// children are functions for tests that need a process of their own: this program runs one instead
// of the tests when GREENAPI_TEST_CHILD names it.
var children = map[string]func() error{}

// runChild runs one of the children and returns its output; the child must succeed.
func runChild(t *testing.T, name string, environment ...string) string {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(executable)
	cmd.Env = append(append(os.Environ(), "GREENAPI_TEST_CHILD="+name), environment...)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		t.Fatalf("child %s: %v\n%s", name, err, output.String())
	}
	return output.String()
}

// The examples read the address and the token from the environment.
func TestMain(m *testing.M) {
	if name := os.Getenv("GREENAPI_TEST_CHILD"); name != "" {
		if err := children[name](); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	s, err := startStandin()
	if err == errNoStandin {
		fmt.Fprintln(os.Stderr, "Skipped, with every example, is what", err)
		flag.Parse()
		// An example cannot skip itself.
		_ = flag.Set("test.skip", strings.Trim(flag.Lookup("test.skip").Value.String()+"|^Example", "|"))
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// These instances give the same answer however often the examples are run.
	deletable := []fields{}
	for id := firstID; id < firstID+10; id++ {
		deletable = append(deletable, fields{"method": "delete", "id": id,
			"fault": fields{"body": `{"deleteInstanceAccount": true}`}})
	}
	s.call(fatal{}, "POST", "/faults", deletable, nil)
	for name, value := range map[string]string{"GREENAPI_URL": s.HTTP, "GREENAPI_TOKEN": s.Token} {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := s.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// fatal is a testing.TB outside of a test.
type fatal struct{ testing.TB }

func (fatal) Helper()                      {}
func (fatal) Fatal(args ...any)            { fmt.Fprintln(os.Stderr, args...); os.Exit(1) }
func (fatal) Fatalf(f string, args ...any) { fmt.Fprintf(os.Stderr, f+"\n", args...); os.Exit(1) }

// within waits for a value, and fails the test after d.
func within[T any](t *testing.T, d time.Duration, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(d):
		t.Fatalf("nothing after %v", d)
		panic("unreachable")
	}
}
