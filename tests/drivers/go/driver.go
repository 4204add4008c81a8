// Driver is the Go driver for the tables of test cases that run in every language. It reads ids
// from standard input, one per line, deletes the instances, and prints one line for each id, with
// fields separated by tabs:
//
//	id  status_number  code  http_status  attempts  sentinel_or_ok  message
//
// Its argument is one_call, client, bulk or list. After a successful one_call only the id is known,
// and the line has "-" for the other fields. list takes no ids, and asks for states if
// GREENAPI_STATES is set; driver.c describes its lines. GREENAPI_URL and GREENAPI_TOKEN give the
// address and the token. GREENAPI_CA_FILE, GREENAPI_INSTANCE_URL, GREENAPI_JOURNAL,
// GREENAPI_MAX_RETRIES, GREENAPI_TIMEOUT_MS and GREENAPI_SESSION set options, except for one_call,
// which takes none.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strconv"
	"time"

	greenapi "github.com/greenapi/greenapi/bindings/go"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(2)
	}
}

func run(arguments []string) (err error) {
	if len(arguments) != 1 {
		return errors.New("give one argument: one_call, client, bulk or list")
	}
	output := bufio.NewWriter(os.Stdout)
	defer func() { err = errors.Join(err, output.Flush()) }()

	var failure error
	ids := readIDs(&failure)
	url, token := os.Getenv("GREENAPI_URL"), os.Getenv("GREENAPI_TOKEN")
	if arguments[0] == "one_call" {
		for id := range ids {
			printError(output, id, greenapi.DeleteInstance(url, token, id))
		}
		return failure
	}

	opts, err := options()
	if err != nil {
		return err
	}
	client, err := greenapi.NewClient(url, token, opts...)
	if err != nil {
		// A client that cannot be made is part of the test cases too.
		for id := range ids {
			printError(output, id, err)
		}
		return failure
	}
	defer client.Close() //nolint:errcheck // Always nil.
	switch arguments[0] {
	case "client":
		for id := range ids {
			result, _ := client.DeleteInstance(context.Background(), id)
			printResult(output, result)
		}
	case "bulk":
		for result := range client.DeleteInstances(context.Background(), ids) {
			printResult(output, result)
		}
	case "list":
		list(output, client)
	default:
		return fmt.Errorf("no mode is called %q: give one_call, client, bulk or list", arguments[0])
	}
	return failure
}

func list(output *bufio.Writer, client *greenapi.Client) {
	var opts []greenapi.ListOption
	if _, ok := os.LookupEnv("GREENAPI_STATES"); ok {
		opts = append(opts, greenapi.WithStates())
	}
	for one, err := range client.Instances(context.Background(), opts...) {
		if err != nil {
			printError(output, 0, err)
			return
		}
		_, _ = fmt.Fprintf(output, "instance\t%d\t%d", one.ID, int32(one.State))
		for _, moment := range []time.Time{one.CreatedAt, one.DeletedAt, one.ExpiresAt} {
			text := "-"
			if !moment.IsZero() {
				text = strconv.FormatInt(moment.Unix(), 10)
			}
			_, _ = fmt.Fprintf(output, "\t%s", text)
		}
		for _, flag := range []bool{one.Deleted, one.Expired, one.Free, one.Partner} {
			digit := 0
			if flag {
				digit = 1
			}
			_, _ = fmt.Fprintf(output, "\t%d", digit)
		}
		_, _ = fmt.Fprintf(output, "\t%x\t%x\t%x\n", one.Type, one.Tariff, one.Name)
	}
	printError(output, 0, nil)
}

// readIDs yields the ids on standard input, and stops at the first line that is not an id.
func readIDs(failure *error) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			id, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				*failure = err
				return
			}
			if !yield(id) {
				return
			}
		}
		*failure = lines.Err()
	}
}

func options() (opts []greenapi.Option, err error) {
	if path, ok := os.LookupEnv("GREENAPI_CA_FILE"); ok {
		opts = append(opts, greenapi.WithCAFile(path))
	}
	if url, ok := os.LookupEnv("GREENAPI_INSTANCE_URL"); ok {
		opts = append(opts, greenapi.WithInstanceURL(url))
	}
	if path, ok := os.LookupEnv("GREENAPI_JOURNAL"); ok {
		opts = append(opts, greenapi.WithJournal(path))
	}
	if text, ok := os.LookupEnv("GREENAPI_MAX_RETRIES"); ok {
		retries, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("GREENAPI_MAX_RETRIES: %w", err)
		}
		opts = append(opts, greenapi.WithMaxRetries(retries))
	}
	if text, ok := os.LookupEnv("GREENAPI_TIMEOUT_MS"); ok {
		ms, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("GREENAPI_TIMEOUT_MS: %w", err)
		}
		opts = append(opts, greenapi.WithTimeout(time.Duration(ms)*time.Millisecond))
	}
	if text, ok := os.LookupEnv("GREENAPI_SESSION"); ok {
		session, ok := sessions[text]
		if !ok {
			return nil, fmt.Errorf("GREENAPI_SESSION: no policy is called %q", text)
		}
		opts = append(opts, greenapi.WithSession(session))
	}
	return opts, nil
}

var sessions = map[string]greenapi.Session{
	"0": greenapi.SessionIgnore, "ignore": greenapi.SessionIgnore,
	"1": greenapi.SessionRequireLoggedOut, "require_logged_out": greenapi.SessionRequireLoggedOut,
	"2": greenapi.SessionLogOut, "log_out": greenapi.SessionLogOut,
	"3": greenapi.SessionTryLogOut, "try_log_out": greenapi.SessionTryLogOut,
}

func printResult(output *bufio.Writer, r greenapi.Result) {
	_, _ = fmt.Fprintf(output, "%d\t%d\t%d\t%d\t%d\t%s\t%s\n",
		r.ID, int32(r.Status), r.Code, r.HTTPStatus, r.Attempts, sentinel(r.Err()), r.Message)
}

func printError(output *bufio.Writer, id int64, err error) {
	var e *greenapi.Error
	if !errors.As(err, &e) {
		_, _ = fmt.Fprintf(output, "%d\t-\t-\t-\t-\t%s\t-\n", id, sentinel(err))
		return
	}
	_, _ = fmt.Fprintf(output, "%d\t%d\t%d\t%d\t%d\t%s\t%s\n",
		id, int32(e.Status), e.Code, e.HTTPStatus, e.Attempts, sentinel(err), e.Message)
}

// sentinel returns the names of the error variables that match err; there should be only one.
func sentinel(err error) string {
	if err == nil {
		return "ok"
	}
	names := ""
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			names += s.name
		}
	}
	return names
}

var sentinels = []struct {
	name string
	err  error
}{
	{"ErrNotFound", greenapi.ErrNotFound},
	{"ErrUnauthorized", greenapi.ErrUnauthorized},
	{"ErrForbidden", greenapi.ErrForbidden},
	{"ErrRateLimited", greenapi.ErrRateLimited},
	{"ErrRejected", greenapi.ErrRejected},
	{"ErrSessionActive", greenapi.ErrSessionActive},
	{"ErrSessionUnknown", greenapi.ErrSessionUnknown},
	{"ErrInvalidArgument", greenapi.ErrInvalidArgument},
	{"ErrConnectFailed", greenapi.ErrConnectFailed},
	{"ErrTLSFailed", greenapi.ErrTLSFailed},
	{"ErrCancelled", greenapi.ErrCancelled},
	{"ErrOutOfResources", greenapi.ErrOutOfResources},
	{"ErrUnprocessed", greenapi.ErrUnprocessed},
	{"ErrNotStarted", greenapi.ErrNotStarted},
	{"ErrTimeout", greenapi.ErrTimeout},
	{"ErrConnectionLost", greenapi.ErrConnectionLost},
	{"ErrServerError", greenapi.ErrServerError},
	{"ErrBadResponse", greenapi.ErrBadResponse},
	{"ErrCancelledInFlight", greenapi.ErrCancelledInFlight},
	{"ErrInternal", greenapi.ErrInternal},
}
