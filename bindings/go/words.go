//go:build cgo && unix

package greenapi

import "strings"

// ownNames maps C's names in messages of the library, every field of greenapi_options and every
// flag, to this package's names. A test reads the names from greenapi.h.
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

// ownWords replaces C's names in a message, except names that are plain words, such as "session".
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

// refusal is the result of a client that was refused. Its message begins with C's name of the
// refused option, which is replaced even if the name is a plain word.
func refusal(r Result) Result {
	name, _, _ := strings.Cut(r.Message, " ")
	name = strings.TrimSuffix(name, ":")
	if own, ok := ownNames[name]; ok {
		r.Message = own + r.Message[len(name):]
	}
	return r
}
