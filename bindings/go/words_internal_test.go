//go:build cgo && (unix || windows)

package greenapi

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestEveryOptionOfTheHeaderHasOurName keeps the one list of such names in step with the library.
func TestEveryOptionOfTheHeaderHasOurName(t *testing.T) {
	header, err := os.ReadFile("../../include/greenapi.h")
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile(`(?s)typedef struct greenapi_options \{.*?\n\} greenapi_options;`).Find(header)
	names := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^  \w.*\b(\w+);$`).FindAllSubmatch(options, -1) {
		names[string(found[1])] = true
	}
	if !names["size"] || !names["flags"] || len(names) < 11 {
		t.Fatalf("the header's options were not understood: %v", names)
	}
	// These two are no options.
	delete(names, "size")
	delete(names, "flags")
	for _, found := range regexp.MustCompile(`GREENAPI_FLAG_\w+`).FindAll(header, -1) {
		names[string(found)] = true
	}
	for name := range names {
		if ownNames[name] == "" {
			t.Errorf("%s has no name in ownNames", name)
		}
	}
	for name := range ownNames {
		if !names[name] {
			t.Errorf("%s is in ownNames and not in greenapi.h", name)
		}
	}
}

func TestRefusalsNameOurOptions(t *testing.T) {
	for message, want := range map[string]string{
		"session is 9":           "WithSession is 9",
		"proxy has no host":      "WithProxy has no host",
		"journal: a directory":   "WithJournal: a directory",
		"url has no host":        "url has no host",
		"token is empty":         "token is empty",
		"WithTimeout is 0":       "WithTimeout is 0",
		"the session of a proxy": "the session of a proxy",
		"timeout_ms is 0":        "WithTimeout is 0",
		"ca_file /etc/ca_file.pem: No such file or directory":    "WithCAFile /etc/ca_file.pem: No such file or directory",
		"ca_pem is given beside ca_file: give one":               "WithCACertificates is given beside WithCAFile: give one",
		"(http:// is for loopback, or GREENAPI_FLAG_ALLOW_HTTP)": "(http:// is for loopback, or WithAllowHTTP)",
	} {
		if got := refusal(Result{Message: message}).Message; got != want {
			t.Errorf("%q becomes %q", message, got)
		}
	}
}

func TestStatesAreThoseOfTheHeader(t *testing.T) {
	header, err := os.ReadFile("../../include/greenapi.h")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`GREENAPI_STATE_(\w+) = (\d+)`).FindAllSubmatch(header, -1)
	if len(found) != len(stateNames) {
		t.Errorf("greenapi.h has %d states, this package %d", len(found), len(stateNames))
	}
	letters := regexp.MustCompile(`[^A-Z]`)
	for _, state := range found {
		number, err := strconv.Atoi(string(state[2]))
		if err != nil {
			t.Fatal(err)
		}
		var back State
		if text, err := State(number).MarshalText(); err != nil || back.UnmarshalText(text) != nil || back != State(number) {
			t.Errorf("%v is read back as %v", State(number), back)
		}
		own := strings.ToUpper(State(number).String())
		if letters.ReplaceAllString(own, "") != letters.ReplaceAllString(string(state[1]), "") {
			t.Errorf("%s is %v here", state[0], State(number))
		}
	}
	if State(len(stateNames)).String() != "other" || State(-1).String() != "other" {
		t.Error("a state of a newer library is not harmless")
	}
	if err := new(State).UnmarshalText([]byte("asleep")); err == nil {
		t.Error("a state that there is not is read")
	}
}
