//go:build cgo && (unix || windows)

package greenapi

import "strings"

// ownNames maps C's names in refusals of options, every field of greenapi_options and every flag, to
// this package's names. A test reads the names from greenapi.h.
var ownNames = map[string]string{
	"timeout_ms":               "WithTimeout",
	"connect_timeout_ms":       "WithConnectTimeout",
	"max_retries":              "WithMaxRetries",
	"max_in_flight":            "WithMaxInFlight",
	"requests_per_second":      "WithRequestsPerSecond",
	"session":                  "WithSession",
	"GREENAPI_FLAG_ALLOW_HTTP": "WithAllowHTTP",
	"ca_file":                  "WithCAFile",
	"proxy":                    "WithProxy",
	"user_agent":               "WithUserAgent",
	"ca_pem":                   "WithCACertificates",
	"instance_url":             "WithInstanceURL",
	"journal":                  "WithJournal",
}

// refusal is the result of a client that was refused, the only one whose message has C's names: it
// begins with that of the refused option, which may be a plain word, such as "session". Further on
// only names with an underscore are known for names.
func refusal(r Result) Result {
	words := strings.SplitAfter(r.Message, " ")
	for i, word := range words {
		name := strings.Trim(word, " (),.:;")
		if own, ok := ownNames[name]; ok && (i == 0 || strings.Contains(name, "_")) {
			words[i] = strings.Replace(word, name, own, 1)
		}
	}
	r.Message = strings.Join(words, "")
	return r
}
