// Package measure is shared by the measured Go programs: arguments, clocks, and the output of
// results. Arguments and output are those of the C programs; see ../c/measure.h.
package measure

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Plan is the parsed command line.
type Plan struct {
	Way, URL, Token    string
	FirstID            int64
	Calls, Concurrency int
}

// Arguments reads the command line.
func Arguments() Plan {
	if len(os.Args) != 7 {
		Fail(fmt.Errorf("usage: %s WAY URL TOKEN FIRST_ID CALLS CONCURRENCY", os.Args[0]))
	}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(os.Args[i], 10, 64)
		Fail(err)
		return n
	}
	return Plan{os.Args[1], os.Args[2], os.Args[3], number(4), int(number(5)), int(number(6))}
}

// Fail ends the program if err is not nil.
func Fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type sample struct {
	time time.Time
	cpu  time.Duration
}

func now() sample {
	var usage syscall.Rusage
	Fail(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return sample{time.Now(), time.Duration(usage.Utime.Nano() + usage.Stime.Nano())}
}

func peakKiB() int {
	status, err := os.ReadFile("/proc/self/status")
	Fail(err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	peak, err := strconv.Atoi(strings.Fields(rest)[0])
	Fail(err)
	return peak
}

func printFigures(calls int, failed int64, before, after sample, median time.Duration) {
	Fail(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"calls":        calls,
		"failed":       failed,
		"seconds":      after.time.Sub(before.time).Seconds(),
		"cpu_seconds":  (after.cpu - before.cpu).Seconds(),
		"median_us":    float64(median) / float64(time.Microsecond),
		"peak_rss_kib": peakKiB(),
	}))
}

// Word prints one line of the way "truth": the library's report, the report of a program that reads
// the API's flag in the body itself, and the reason.
func Word(id int64, word, wordByBody, reason string) {
	fmt.Printf("%d\t%s\t%s\t%s\n", id, word, wordByBody, strings.NewReplacer("\t", " ", "\n", " ").Replace(reason))
}

// Bulk deletes all instances with Concurrency goroutines.
func (p Plan) Bulk(call func(id int64) bool) {
	var next, failed atomic.Int64
	var group sync.WaitGroup
	before := now()
	for range p.Concurrency {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				i := next.Add(1) - 1
				if i >= int64(p.Calls) {
					return
				}
				if !call(p.FirstID + i) {
					failed.Add(1)
				}
			}
		}()
	}
	group.Wait()
	printFigures(p.Calls, failed.Load(), before, now(), 0)
}

// Whole measures one call that deletes all instances and returns how many failed.
func (p Plan) Whole(deleteAll func() int64) {
	before := now()
	failed := deleteAll()
	printFigures(p.Calls, failed, before, now(), 0)
}

// Warm makes one call that is not measured, and then all calls one after the other.
func (p Plan) Warm(call func(id int64) bool) {
	if p.Concurrency != 1 {
		Fail(fmt.Errorf("the way warm is for one goroutine"))
	}
	call(p.FirstID)
	var failed int64
	latencies := make([]time.Duration, p.Calls)
	before := now()
	for i := range latencies {
		start := time.Now()
		if !call(p.FirstID + 1 + int64(i)) {
			failed++
		}
		latencies[i] = time.Since(start)
	}
	after := now()
	slices.Sort(latencies)
	printFigures(p.Calls, failed, before, after, latencies[len(latencies)/2])
}
