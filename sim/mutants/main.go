// Command mutants tests the tests: it makes deliberate errors in the merging of values, one at a time, runs the
// tests of what was changed, and says which test noticed. An error that no test notices fails the run.
//
// The errors are of the classes that cost other systems data: the table in mutants.go names for each
// what would go wrong. Nothing in the working tree is changed; the compiler is given the changed files
// beside it (go test -overlay).
//
//	go run ./sim/mutants            # all of them, half an hour
//	go run ./sim/mutants -run gap   # those with gap in their names
//
// Errors of what is between regions, and those that only regions together show, are held against the simulated
// world, too (sim/world): the table says the seed of the first schedule that noticed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	testTimeout = 15 * time.Minute
	// vectors matches the tests of encodings that were written down. They notice much, but not what it means.
	vectors = "Golden"
)

func main() {
	only := flag.String("run", "", "run those mutants only whose name matches this regular expression")
	flag.Uint64Var(&schedules, "schedules", 10_000, "how many schedules of the simulated world may pass before one notices")
	flag.BoolVar(&everywhere, "everywhere", false, "hold every mutant against the simulated world, and against nothing else")
	root := flag.String("root", ".", "the repository")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *root, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		stop()
		os.Exit(1)
	}
}

var (
	schedules  uint64
	everywhere bool
)

// verdict is what became of a mutant.
type verdict struct {
	*mutant
	killer string // the test that failed first; empty if none did
	seed   string // the schedule that failed first, and how; empty if none did
	took   time.Duration
}

// held reports whether there was something that has to notice.
func (v *verdict) held() bool { return v.tests != nil && !everywhere || v.simulated() }

// survives reports whether something that has to notice did not.
func (v *verdict) survives() bool {
	return v.tests != nil && v.killer == "" && !everywhere || v.simulated() && v.seed == ""
}

func run(ctx context.Context, root, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "atoll-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var verdicts []verdict
	survivors, held := 0, 0
	mutants := all()
	for i := range mutants {
		m := &mutants[i]
		if !wanted.MatchString(m.name) {
			continue
		}
		v, err := hold(ctx, root, dir, m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if v.survives() {
			survivors++
		}
		if v.held() {
			held++
		}
		verdicts = append(verdicts, v)
		fmt.Fprintf(os.Stderr, "%d of %d: %s: %s; %s\n", i+1, len(mutants), m.name, outcome(v.killer), outcome(v.seed))
	}
	if err := show(verdicts); err != nil {
		return err
	}
	switch {
	case len(verdicts) == 0:
		return errors.New("no mutant has such a name")
	case survivors > 0:
		return fmt.Errorf("%d of %d survived", survivors, held)
	}
	fmt.Printf("\nall %d that something had to notice here were noticed, of %d\n", held, len(verdicts))
	return nil
}

// hold holds a mutant against everything that has to notice it.
func hold(ctx context.Context, root, dir string, m *mutant) (verdict, error) {
	v, began := verdict{mutant: m}, time.Now()
	overlay, err := plant(root, dir, m)
	if err == nil && m.tests != nil && !everywhere {
		defer forgetFailures(root, m.tests)()
		v.killer, err = try(ctx, root, overlay, append([]string{"-failfast", "-skip", vectors}, m.tests...), judge)
	}
	if err == nil && (m.simulated() || everywhere) {
		world := []string{"./sim/world", "-run", "^TestSchedules$", fmt.Sprint("-schedules=", schedules)}
		v.seed, err = try(ctx, root, overlay, world, judgeSchedules)
	}
	v.took = time.Since(began)
	return v, err
}

func outcome(killer string) string {
	if killer == "" {
		return "-"
	}
	return killer
}

func show(verdicts []verdict) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MUTANT\tCLASS\tFILE\tWHAT WOULD GO WRONG\tNOTICED BY TEST\tBY SCHEDULE\tAFTER")
	for i := range verdicts {
		v := &verdicts[i]
		survived := ""
		if v.survives() {
			survived = " SURVIVED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.1f s%s\n", v.name, v.class, v.file, v.harm, outcome(v.killer), outcome(v.seed), v.took.Seconds(), survived)
	}
	return w.Flush()
}

// try runs tests with a mutant in place and returns what judge makes of it if they fail, else "".
func try(ctx context.Context, root, overlay string, tests []string, judge func(output string) (string, error)) (killer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	args := append([]string{"test", "-overlay", overlay, "-vet=off", "-count=1"}, tests...)
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = root
	output, err := command.CombinedOutput()
	switch {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	}
	return judge(string(output))
}

// forgetFailures returns what removes the histories that rapid keeps of tests that failed, unless there
// were some before: they are of deliberate errors.
func forgetFailures(root string, packages []string) func() {
	var made []string
	for _, p := range packages {
		path := filepath.Join(root, p, "testdata", "rapid")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			made = append(made, path)
		}
	}
	return func() {
		for _, path := range made {
			_ = os.RemoveAll(path) // git ignores what is left
		}
	}
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// judge reads what go test printed when it failed.
func judge(output string) (killer string, err error) {
	switch {
	case strings.Contains(output, "[build failed]"), strings.Contains(output, "[setup failed]"):
		return "", fmt.Errorf("it does not compile:\n%s", output)
	case failure.MatchString(output):
		for _, match := range failure.FindAllStringSubmatch(output, -1) {
			if strings.HasPrefix(match[1], killer) { // the first, and then its subtest, which says more
				killer = match[1]
			}
		}
		return killer, nil
	case strings.Contains(output, "panic: "), strings.Contains(output, "FAIL\t"):
		return "the process ended", nil
	default:
		return "", fmt.Errorf("the tests could not be run:\n%s", output)
	}
}

var seeded = regexp.MustCompile(`seed (\d+): ([^,\n]+)`)

// judgeSchedules reads what go test printed when a schedule failed.
func judgeSchedules(output string) (seed string, err error) {
	if match := seeded.FindStringSubmatch(output); match != nil {
		return "seed " + match[1] + ": " + match[2], nil
	}
	return judge(output)
}

// plant writes the changed file and returns the overlay that puts it in place of the true one.
func plant(root, dir string, m *mutant) (overlay string, err error) {
	path, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return "", fmt.Errorf("%s has the text to change %d times, not once: bring the mutant up to date", m.file, n)
	}
	changed := filepath.Join(dir, "mutant.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}
