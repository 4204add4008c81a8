// Go's net/http: warm, bulk (goroutines), truth. As its documentation shows: one Client for the
// program, with enough idle connections; err reports that there was no answer, StatusCode gives the
// answer, and each body is read to its end and closed so that the connection is reused.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/greenapi/greenapi/benches/measure"
)

func main() {
	plan := measure.Arguments()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = plan.Concurrency
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	url := plan.URL + "/partner/deleteInstanceAccount/" + plan.Token

	post := func(id int64) ([]byte, error) {
		request, err := json.Marshal(map[string]int64{"idInstance": id})
		if err != nil {
			return nil, err
		}
		response, err := client.Post(url, "application/json", bytes.NewReader(request))
		if err != nil {
			return nil, err
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s", response.Status)
		}
		return body, nil
	}
	call := func(id int64) bool {
		_, err := post(id)
		return err == nil
	}
	switch plan.Way {
	case "warm":
		plan.Warm(call)
	case "bulk":
		plan.Bulk(call)
	case "truth":
		for i := range int64(plan.Calls) {
			id := plan.FirstID + i
			body, err := post(id)
			if err != nil {
				measure.Word(id, "failed", "failed", err.Error())
				continue
			}
			var answer struct{ DeleteInstanceAccount bool }
			byBody := "failed"
			if json.Unmarshal(body, &answer) == nil && answer.DeleteInstanceAccount {
				byBody = "deleted"
			}
			measure.Word(id, "deleted", byBody, "")
		}
	default:
		measure.Fail(fmt.Errorf("no way %q in this program", plan.Way))
	}
}
