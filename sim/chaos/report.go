package main

import (
	"fmt"
	"io"
	"sync"
	"text/tabwriter"
	"time"
)

// report prints what happens, and the figures and checks at the end.
type report struct {
	out   io.Writer
	begin time.Time

	mu      sync.Mutex
	figures [][2]string
	checks  int
	failed  bool
}

// note prints one line of the story.
func (r *report) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, "%6.1fs  %s\n", time.Since(r.begin).Seconds(), fmt.Sprintf(format, args...))
}

// figure keeps a line for the table.
func (r *report) figure(name, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures = append(r.figures, [2]string{name, fmt.Sprintf(format, args...)})
}

// check prints whether something holds. One that does not makes the run fail.
func (r *report) check(what string, err error) {
	r.mu.Lock()
	r.checks++
	r.failed = r.failed || err != nil
	r.mu.Unlock()
	if err != nil {
		r.note("FAIL %s: %v", what, err)
		return
	}
	r.note("ok   %s", what)
}

// finish prints the table and the verdict, which is false if a check failed or none was made.
func (r *report) finish() bool {
	fmt.Fprintln(r.out)
	table := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	for _, f := range r.figures {
		fmt.Fprintf(table, "%s\t%s\n", f[0], f[1])
	}
	_ = table.Flush() // as any other line that cannot be printed
	passed := !r.failed && r.checks > 0
	verdict := "FAIL"
	if passed {
		verdict = "PASS"
	}
	fmt.Fprintf(r.out, "\n%s: %d checks in %.0f s\n", verdict, r.checks, time.Since(r.begin).Seconds())
	return passed
}

// quantile returns the value below which q of the sorted durations are.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// ms prints a duration for the table.
func ms(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
