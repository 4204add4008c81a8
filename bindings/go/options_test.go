//go:build cgo && (unix || windows)

package greenapi_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

// namesOfC matches C's names, which must not reach a Go program.
var namesOfC = regexp.MustCompile(`\w+_\w+|NULL|millisecond`)

func TestWhatMakesNoSenseIsRefusedByName(t *testing.T) {
	const url, token = "https://localhost", "gac.0123456789abcdef"
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		url, token string
		option     greenapi.Option
		names      string // what the message must name, case apart
	}{
		{"", token, nil, "url"},
		{"https://user@localhost", token, nil, "url"},
		{"http://example.com", token, nil, "WithAllowHTTP"},
		{"https://local\x00host", token, nil, "url"},
		{"https://local\xffhost", token, nil, "url"},
		{url, "", nil, "token"},
		{url, "gac.0123\x00456789abcdef", nil, "token"},
		{url, "gac.0123\n456789abcdef", nil, "token"},
		{url, token, greenapi.WithTimeout(0), "WithTimeout is 0"},
		{url, token, greenapi.WithTimeout(-time.Second), "WithTimeout"},
		{url, token, greenapi.WithTimeout(50 * 24 * time.Hour), "WithTimeout"},
		{url, token, greenapi.WithConnectTimeout(0), "WithConnectTimeout is 0"},
		{url, token, greenapi.WithConnectTimeout(-1), "WithConnectTimeout"},
		{url, token, greenapi.WithMaxRetries(-1), "WithMaxRetries"},
		{url, token, greenapi.WithMaxInFlight(0), "WithMaxInFlight"},
		{url, token, greenapi.WithMaxInFlight(-1), "WithMaxInFlight"},
		{url, token, greenapi.WithMaxInFlight(math.MaxInt), "WithMaxInFlight"},
		{url, token, greenapi.WithRequestsPerSecond(-1), "WithRequestsPerSecond"},
		{url, token, greenapi.WithRequestsPerSecond(math.NaN()), "WithRequestsPerSecond"},
		{url, token, greenapi.WithSession(9), "WithSession is 9"},
		{url, token, greenapi.WithCAFile(empty), "WithCAFile " + empty},
		{url, token, greenapi.WithCAFile(empty + ".missing"), "WithCAFile " + empty + ".missing"},
		{url, token, greenapi.WithCAFile("a\x00b"), "WithCAFile"},
		{url, token, greenapi.WithProxy("gopher://localhost"), "WithProxy"},
		{url, token, greenapi.WithProxy("http://local\x00host"), "WithProxy"},
		{url, token, greenapi.WithUserAgent("a\nb"), "WithUserAgent"},
		{url, token, greenapi.WithUserAgent("a\x00b"), "WithUserAgent"},
		{url, token, greenapi.WithCACertificates([]byte("a\x00b")), "WithCACertificates"},
		{url, token, greenapi.WithCACertificates([]byte("no PEM")), "WithCACertificates"},
		{url, token, greenapi.WithInstanceURL("ftp://localhost"), "WithInstanceURL"},
		{url, token, greenapi.WithInstanceURL("https://local\x00host"), "WithInstanceURL"},
		{url, token, greenapi.WithInstanceURL("https://{pool"), "WithInstanceURL"},
		{url, token, greenapi.WithJournal("a\x00b"), "WithJournal contains"},
		{url, token, greenapi.WithJournal(""), "WithJournal is an empty path"},
		{url, token, greenapi.WithJournal(filepath.Dir(empty)), "WithJournal"},
	} {
		var opts []greenapi.Option
		if test.option != nil {
			opts = append(opts, test.option)
		}
		c, err := greenapi.NewClient(test.url, test.token, opts...)
		var e *greenapi.Error
		if c != nil || !errors.Is(err, greenapi.ErrInvalidArgument) || !errors.As(err, &e) || e.Effect() != greenapi.EffectNotDeleted {
			t.Errorf("%q %q %s: got %v, %v", test.url, test.token, test.names, c, err)
			continue
		}
		if !strings.Contains(strings.ToLower(e.Message), strings.ToLower(test.names)) {
			t.Errorf("%q %q: %q does not name %s", test.url, test.token, e.Message, test.names)
		}
		if inC := namesOfC.FindString(strings.ReplaceAll(e.Message, empty, "")); inC != "" {
			t.Errorf("%q %q: %q names %s, which is C's", test.url, test.token, e.Message, inC)
		}
	}
}

func TestAnIDThatNoInstanceCanHaveIsRefused(t *testing.T) {
	s := newStandin(t)
	c := s.client(t)
	for _, id := range []int64{math.MinInt64, -1, 0, 10_000_000_000, math.MaxInt64} {
		result, err := c.DeleteInstance(context.Background(), id)
		if !errors.Is(err, greenapi.ErrInvalidArgument) || result.ID != id || !strings.HasPrefix(result.Message, fmt.Sprintf("id %d ", id)) {
			t.Errorf("id %d: %+v, %v", id, result, err)
		}
	}
	if got := s.stats(t).Connections.Accepted; got != 0 {
		t.Errorf("%d connections were made", got)
	}
}

func TestShortTimesAreRoundedUpToSome(t *testing.T) {
	newClient(t, "https://localhost", "gac.token", greenapi.WithTimeout(1), greenapi.WithConnectTimeout(1))
}

func TestAllowHTTP(t *testing.T) {
	newClient(t, "http://example.com", "gac.token", greenapi.WithAllowHTTP())
}

func TestMaxRetries(t *testing.T) {
	s := newStandin(t)
	s.fault(t, fields{"status": 502})
	result, _ := s.client(t, greenapi.WithMaxRetries(1)).DeleteInstance(context.Background(), firstID)
	if result.Attempts != 2 {
		t.Errorf("got %+v", result)
	}
}

func TestConnectTimeout(t *testing.T) {
	s := newStandin(t)
	c := newClient(t, s.Traps["backlog"], s.Token, greenapi.WithConnectTimeout(100*time.Millisecond), greenapi.WithMaxRetries(0))
	began := time.Now()
	_, err := c.DeleteInstance(context.Background(), firstID)
	if took := time.Since(began); !errors.Is(err, greenapi.ErrConnectFailed) || took > 5*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
}

func TestRequestsPerSecond(t *testing.T) {
	s := newStandin(t)
	c := s.client(t, greenapi.WithRequestsPerSecond(20))
	for range c.DeleteInstances(context.Background(), idRange(1, 5)) {
	}
	var arrivals []struct {
		AtMS int64 `json:"at_ms"`
	}
	s.call(t, "GET", "/arrivals", nil, &arrivals)
	// Four pauses of 50 ms, and a tolerance for a first one that arrives late.
	if took := arrivals[len(arrivals)-1].AtMS - arrivals[0].AtMS; len(arrivals) != 5 || took < 150 {
		t.Errorf("%d requests within %d ms", len(arrivals), took)
	}
}

func TestUserAgent(t *testing.T) {
	s := newStandin(t)
	if _, err := s.client(t, greenapi.WithUserAgent("my-tool/1.2")).DeleteInstance(context.Background(), firstID); err != nil {
		t.Fatal(err)
	}
	if head := s.stats(t).LastHead; !strings.Contains(strings.ToLower(head), "user-agent: my-tool/1.2 ") {
		t.Errorf("the request was\n%s", head)
	}
}

func TestCAFileAndProxy(t *testing.T) {
	s := newStandin(t)
	for i, test := range []struct {
		opts    []greenapi.Option
		tunnels int
	}{
		{[]greenapi.Option{greenapi.WithProxy("")}, 0},
		{[]greenapi.Option{greenapi.WithProxy(s.ProxyHTTP)}, 1},
	} {
		c := newClient(t, s.HTTPS, s.Token, append(test.opts, greenapi.WithCAFile(s.CAFile))...)
		if _, err := c.DeleteInstance(context.Background(), firstID+int64(i)); err != nil {
			t.Fatal(err)
		}
		if got := s.stats(t).Proxies["proxy_http"].Tunnels; got != test.tunnels {
			t.Errorf("%d tunnels, want %d", got, test.tunnels)
		}
	}
}

func TestCACertificates(t *testing.T) {
	s := newStandin(t)
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s.HTTPS, s.Token, greenapi.WithCACertificates(pem))
	if _, err := c.DeleteInstance(context.Background(), firstID); err != nil {
		t.Error(err)
	}
	_, err = greenapi.NewClient(s.HTTPS, s.Token, greenapi.WithCACertificates(pem), greenapi.WithCAFile(s.CAFile))
	if !errors.Is(err, greenapi.ErrInvalidArgument) || !strings.Contains(err.Error(), "WithCACertificates") ||
		!strings.Contains(err.Error(), "WithCAFile") {
		t.Errorf("both at once: %v", err)
	}
}

// The methods of instances are asked at a URL of their own, where nothing else answers.
func TestInstanceURL(t *testing.T) {
	s := newStandin(t)
	s.call(t, "POST", "/settings", fields{"instance_prefix": "/pool/{pool}"}, nil)
	session := greenapi.WithSession(greenapi.SessionLogOut)
	if result, err := s.client(t, session, greenapi.WithMaxRetries(0)).DeleteInstance(context.Background(), firstID); err == nil {
		t.Errorf("without the option: %+v", result)
	}
	c := s.client(t, session, greenapi.WithInstanceURL(s.HTTP+"/pool/{pool}"))
	if _, err := c.DeleteInstance(context.Background(), firstID); err != nil {
		t.Error(err)
	}
}

// A second client with the same journal does not repeat the deletions of the first.
func TestJournal(t *testing.T) {
	s := newStandin(t)
	journal := filepath.Join(t.TempDir(), "journal")
	for attempts := 1; attempts >= 0; attempts-- {
		c := s.client(t, greenapi.WithJournal(journal))
		result, err := c.DeleteInstance(context.Background(), firstID)
		if err != nil || result.Status != greenapi.StatusOK || result.Attempts != attempts {
			t.Errorf("got %+v, %v, want %d attempts", result, err, attempts)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := s.stats(t).Received; got != 1 {
		t.Errorf("%d requests were sent", got)
	}
}

func TestSessions(t *testing.T) {
	s := newStandin(t)
	const authorized, refusing, loggedOut, stubborn = 1, 2, 3, 4
	s.call(t, "POST", "/instances", []fields{
		{"id": authorized, "state": "authorized"},
		{"id": refusing, "state": "authorized", "refuse_logout": true},
		{"id": loggedOut, "state": "notAuthorized"},
		{"id": stubborn, "state": "authorized", "refuse_logout": true},
	}, nil)
	for _, test := range []struct {
		session greenapi.Session
		id      int64
		want    greenapi.Status
	}{
		{greenapi.SessionRequireLoggedOut, authorized, greenapi.StatusSessionActive},
		{greenapi.SessionRequireLoggedOut, loggedOut, greenapi.StatusOK},
		{greenapi.SessionLogOut, refusing, greenapi.StatusSessionActive},
		{greenapi.SessionLogOut, authorized, greenapi.StatusOK},
		{greenapi.SessionTryLogOut, stubborn, greenapi.StatusOK},
		{greenapi.SessionIgnore, refusing, greenapi.StatusOK},
	} {
		c := s.client(t, greenapi.WithSession(test.session), greenapi.WithTimeout(5*time.Second))
		result, err := c.DeleteInstance(context.Background(), test.id)
		if result.Status != test.want {
			t.Errorf("session %d, instance %d: got %+v, %v", test.session, test.id, result, err)
		}
	}
	if got := s.deleted(t); !slices.Equal(got, []int64{authorized, refusing, loggedOut, stubborn}) {
		t.Errorf("really deleted: %v", got)
	}
}
