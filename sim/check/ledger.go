package check

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
)

// Outcome is how a write ended.
type Outcome uint8

// The outcomes of a write. One that has not ended is as good as unknown.
const (
	Unknown Outcome = iota
	Done
	NotDone
)

// Ledger knows of every write how it ended. Each write has a key of its own, and both key and value
// follow from the writer's number and the write's, so that a ledger of millions is small.
type Ledger struct {
	prefix     string
	seed       uint64
	valueBytes int
	writers    []*LedgerWriter
}

// LedgerWriter is the page of one writer. One goroutine writes it.
type LedgerWriter struct {
	ledger *Ledger
	number int

	mu struct {
		sync.Mutex
		outcomes []Outcome // of write 0, 1 and so on
	}
}

// NewLedger returns a ledger of so many writers, whose keys begin with prefix.
func NewLedger(prefix string, seed uint64, writers, valueBytes int) *Ledger {
	l := &Ledger{prefix: prefix, seed: seed, valueBytes: valueBytes}
	for i := range writers {
		l.writers = append(l.writers, &LedgerWriter{ledger: l, number: i})
	}
	return l
}

// Writer returns a writer's page.
func (l *Ledger) Writer(i int) *LedgerWriter { return l.writers[i] }

// Begin returns the next write.
func (w *LedgerWriter) Begin() (n int, key string, value []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = len(w.mu.outcomes)
	w.mu.outcomes = append(w.mu.outcomes, Unknown)
	return n, w.key(n), w.ledger.value(w.number, n)
}

// End says how a write ended.
func (w *LedgerWriter) End(n int, o Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.outcomes[n] = o
}

func (w *LedgerWriter) key(n int) string { return fmt.Sprintf("%s%d/%d", w.ledger.prefix, w.number, n) }

func (l *Ledger) value(writer, n int) []byte {
	random := rand.New(rand.NewPCG(l.seed, uint64(writer)<<40|uint64(n)))
	value := make([]byte, 0, l.valueBytes+8)
	for len(value) < l.valueBytes {
		value = strconv.AppendUint(value, random.Uint64(), 36)
	}
	return value[:l.valueBytes]
}

// Comparison is what became of the writes of a ledger.
type Comparison struct {
	Done, NotDone, Unknown int
	// UnknownFound is how many of the unknown are there.
	UnknownFound int
	// Lost are writes that were acknowledged and are not there. Phantoms are there and should not be:
	// nobody wrote them, or were refused, or have another value. Of each, the first few are named.
	Lost, Phantoms   int
	LostKeys         []string
	PhantomsExamples []string
}

const namedFaults = 5

// Compare compares the ledger with all there is under its prefix. No write may be under way.
func (l *Ledger) Compare(found iter.Seq2[string, []byte]) *Comparison {
	c := &Comparison{}
	seen := make([][]bool, len(l.writers))
	for i, w := range l.writers {
		seen[i] = make([]bool, len(w.mu.outcomes))
	}
	for key, value := range found {
		if fault := l.place(seen, key, value); fault != "" {
			c.Phantoms++
			c.PhantomsExamples = appendFew(c.PhantomsExamples, key+": "+fault)
		}
	}
	for i, w := range l.writers {
		c.count(w, seen[i])
	}
	return c
}

// place notes that a key was found, and says what is wrong with it.
func (l *Ledger) place(seen [][]bool, key string, value []byte) (fault string) {
	rest, ours := strings.CutPrefix(key, l.prefix)
	first, second, two := strings.Cut(rest, "/")
	writer, err1 := strconv.Atoi(first)
	n, err2 := strconv.Atoi(second)
	if !ours || !two || err1 != nil || err2 != nil || writer < 0 || writer >= len(seen) || n < 0 || n >= len(seen[writer]) {
		return "nobody wrote it"
	}
	if seen[writer][n] {
		return "it is there twice"
	}
	seen[writer][n] = true
	if l.writers[writer].mu.outcomes[n] == NotDone {
		return "the write was refused"
	}
	if want := l.value(writer, n); !bytes.Equal(value, want) {
		return fmt.Sprintf("%d bytes that nobody wrote", len(value))
	}
	return ""
}

func (c *Comparison) count(w *LedgerWriter, seen []bool) {
	for n, outcome := range w.mu.outcomes {
		switch outcome {
		case NotDone:
			c.NotDone++
		case Done:
			c.Done++
			if !seen[n] {
				c.Lost++
				c.LostKeys = appendFew(c.LostKeys, w.key(n))
			}
		default:
			c.Unknown++
			if seen[n] {
				c.UnknownFound++
			}
		}
	}
}

func appendFew(list []string, s string) []string {
	if len(list) < namedFaults {
		list = append(list, s)
	}
	return list
}
