//go:build cgo && unix

package greenapi

import "strings"

// ownNames are the names that callers of this package know for what messages of the library name
// as C does: every field of greenapi_options and every flag. A test reads these from greenapi.h.
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

// ownWords replaces C's names in a message. Those that are plain words, such as "session", mean
// what they say there.
func ownWords(message string) string {
	if !strings.Contains(message, "_") {
		return message
	}
	words := strings.SplitAfter(message, " ")
	for i, word := range words {
		name := strings.Trim(word, " (),.:;")
		if own, ok := ownNames[name]; ok && strings.Contains(name, "_") {
			words[i] = strings.Replace(word, name, own, 1)
		}
	}
	return strings.Join(words, "")
}

// refusal is a result that says why no client was made. Its message begins with C's name of what
// was refused, be that a plain word or not.
func refusal(r Result) Result {
	name, _, _ := strings.Cut(r.Message, " ")
	name = strings.TrimSuffix(name, ":")
	if own, ok := ownNames[name]; ok {
		r.Message = own + r.Message[len(name):]
	}
	return r
}
