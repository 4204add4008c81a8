//go:build cgo && (unix || windows)

package greenapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

func TestZeroValuesAreUnknown(t *testing.T) {
	var effect greenapi.Effect
	if effect != greenapi.EffectUnknown {
		t.Errorf("the zero Effect is %v", effect)
	}
	missing := map[int64]greenapi.Result{}[firstID]
	for name, err := range map[string]error{
		"a missing Result":                 missing.Err(),
		"a Result with a status and no id": greenapi.Result{Status: greenapi.StatusGone}.Err(),
		"a zero Error":                     &greenapi.Error{},
		"an Error that says gone":          &greenapi.Error{ID: firstID, Status: greenapi.StatusGone},
		"an Error with its status only":    &greenapi.Error{Status: greenapi.StatusTimeout},
	} {
		if !errors.Is(err, greenapi.ErrOutcomeUnknown) || errors.Is(err, greenapi.ErrNotDeleted) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && len(err.Error()) < 20 {
			t.Errorf("%s says only %q", name, err)
		}
	}
	for name, value := range map[string]interface{ LogValue() slog.Value }{
		"the zero Result": greenapi.Result{},
		"the zero Error":  &greenapi.Error{},
	} {
		err, isError := value.(error)
		if !isError {
			err = value.(greenapi.Result).Err()
		}
		if text := err.Error(); !strings.HasPrefix(text, "greenapi: No result: ") {
			t.Errorf("%s says %q", name, text)
		}
		var output bytes.Buffer
		slog.New(slog.NewTextHandler(&output, nil)).Info("", "it", value)
		if text := output.String(); strings.Contains(text, "STATUS_OK") || strings.Contains(text, "deleted") ||
			!strings.Contains(text, "it.effect=unknown") || !strings.Contains(text, "No result") {
			t.Errorf("%s is logged as %s", name, text)
		}
	}
	// A request that was never sent deleted nothing, whatever its id.
	if err := (greenapi.Result{Status: greenapi.StatusInvalidArgument}).Err(); !errors.Is(err, greenapi.ErrNotDeleted) {
		t.Errorf("the refusal of id 0: %v", err)
	}
	if err := (greenapi.Result{ID: firstID}).Err(); err != nil {
		t.Errorf("a deletion: %v", err)
	}
}

func TestAClientThatWasNeverMadeIsClosed(t *testing.T) {
	var none *greenapi.Client
	var embedded struct{ greenapi.Client }
	for name, c := range map[string]*greenapi.Client{"nil": none, "zero": {}, "embedded": &embedded.Client} {
		for range 2 {
			if err := c.Close(); err != nil {
				t.Errorf("%s: closing: %v", name, err)
			}
		}
		result, err := c.DeleteInstance(context.Background(), firstID)
		if !errors.Is(err, greenapi.ErrClosed) || !errors.Is(err, greenapi.ErrNotDeleted) || result.ID != firstID {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
		results := slices.Collect(c.DeleteInstances(context.Background(), idRange(1, 2)))
		if len(results) != 2 || !errors.Is(results[1].Err(), greenapi.ErrClosed) || results[1].ID != 2 {
			t.Errorf("%s: %+v", name, results)
		}
		if results := slices.Collect(c.DeleteInstances(context.Background(), nil)); len(results) != 0 {
			t.Errorf("%s: %+v", name, results)
		}
	}
}

func TestACopyIsTheSameClient(t *testing.T) {
	s := newStandin(t)
	made, err := greenapi.NewClient(s.HTTP, s.Token)
	if err != nil {
		t.Fatal(err)
	}
	copied := *made
	embedded := struct{ greenapi.Client }{copied}
	for range 3 {
		runtime.GC() // which takes what was made, and must not take what the copies use
	}
	if _, err := copied.DeleteInstance(context.Background(), firstID); err != nil {
		t.Error(err)
	}
	for _, c := range []*greenapi.Client{&embedded.Client, &copied} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := copied.DeleteInstance(context.Background(), firstID); !errors.Is(err, greenapi.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestANilOptionIsSkipped(t *testing.T) {
	s := newStandin(t)
	s.fault(t, fields{"status": 502})
	result, _ := s.client(t, nil, greenapi.WithMaxRetries(0), nil).DeleteInstance(context.Background(), firstID)
	if result.Attempts != 1 {
		t.Errorf("got %+v", result)
	}
}

func TestStatusAndEffectAreTextInJSON(t *testing.T) {
	for _, s := range statuses {
		text, err := json.Marshal(map[greenapi.Status]greenapi.Status{s.status: s.status})
		if want := strings.ReplaceAll(`{"GREENAPI_STATUS_X":"GREENAPI_STATUS_X"}`, "X", s.name); err != nil || string(text) != want {
			t.Errorf("%v: %s, %v", s.status, text, err)
		}
		var back map[greenapi.Status]greenapi.Status
		if err := json.Unmarshal(text, &back); err != nil || back[s.status] != s.status {
			t.Errorf("%s: %v, %v", text, back, err)
		}
		var short greenapi.Status
		if err := short.UnmarshalText([]byte(s.name)); err != nil || short != s.status {
			t.Errorf("%s: %v, %v", s.name, short, err)
		}
	}
	// The number of a newer library survives the round trip; nonsense is refused.
	newer, err := greenapi.Status(29).MarshalText()
	var back greenapi.Status
	if err != nil || string(newer) != "29" || back.UnmarshalText(newer) != nil || back != 29 {
		t.Errorf("%s, %v, %v", newer, back, err)
	}
	for _, nonsense := range []string{"", "DELETED", "UNKNOWN", "1e3", "99999999999"} {
		if err := back.UnmarshalText([]byte(nonsense)); err == nil {
			t.Errorf("%q is read as %v", nonsense, back)
		}
	}
	for _, effect := range []greenapi.Effect{greenapi.EffectUnknown, greenapi.EffectDeleted, greenapi.EffectNotDeleted} {
		text, err := json.Marshal(effect)
		back := greenapi.Effect(-1)
		if err != nil || string(text) != `"`+effect.String()+`"` || json.Unmarshal(text, &back) != nil || back != effect {
			t.Errorf("%v: %s, %v, %v", effect, text, back, err)
		}
	}
	if err := new(greenapi.Effect).UnmarshalText([]byte("perhaps")); err == nil {
		t.Error("an effect that there is not is read")
	}
	result := greenapi.Result{ID: firstID, Status: greenapi.StatusNotFound, Code: 404, Message: "m"}
	text, err := json.Marshal(result)
	var read greenapi.Result
	if err != nil || json.Unmarshal(text, &read) != nil || read != result {
		t.Errorf("%s, %+v, %v", text, read, err)
	}
}

func TestSlogGetsTheFields(t *testing.T) {
	s := newStandin(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("the user pressed stop"))
	result, err := s.client(t).DeleteInstance(ctx, firstID)
	for name, value := range map[string]any{"result": result, "error": err} {
		var output bytes.Buffer
		slog.New(slog.NewJSONHandler(&output, nil)).Info("deleting", "it", value)
		var line struct {
			It struct {
				ID                             int64
				Status, Effect, Message, Cause string
				Code, Attempts                 *int
				HTTPStatus                     *int `json:"http_status"`
			}
		}
		if err := json.Unmarshal(output.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		it := line.It
		if it.ID != firstID || it.Status != "GREENAPI_STATUS_CANCELLED" || it.Effect != "not deleted" || it.Message == "" ||
			it.Cause != "context canceled: the user pressed stop" || it.Code == nil || it.Attempts == nil || it.HTTPStatus == nil {
			t.Errorf("%s: %s", name, output.String())
		}
	}
	var none *greenapi.Error
	var output bytes.Buffer
	slog.New(slog.NewTextHandler(&output, nil)).Info("nothing", "it", none)
	if strings.Contains(output.String(), "panic") {
		t.Error(output.String())
	}
}

func TestTheErrorSaysWhyTheContextEnded(t *testing.T) {
	s := newStandin(t)
	c := s.client(t)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancel := context.WithTimeout(context.Background(), -1)
	defer cancel()
	caused, cancelCause := context.WithCancelCause(context.Background())
	cancelCause(errors.New("the user pressed stop"))
	for ctx, want := range map[context.Context]string{
		canceled: "(context canceled)",
		late:     "(context deadline exceeded)",
		caused:   "(context canceled: the user pressed stop)",
	} {
		_, err := c.DeleteInstance(ctx, firstID)
		if err == nil || !strings.HasSuffix(err.Error(), want) || !errors.Is(err, context.Cause(ctx)) {
			t.Errorf("%v does not end in %s", err, want)
		}
	}
	if _, err := (&greenapi.Client{}).DeleteInstance(context.Background(), 1); strings.Contains(err.Error(), "(") {
		t.Errorf("a closed client: %v", err)
	}
}
