package check

import (
	"fmt"
	"sync"
)

// Kind is what an operation does.
type Kind uint8

// The kinds of operations. Every value that is written is written once only, so that a value names
// the write that it comes from.
const (
	// Get reads.
	Get Kind = iota
	// Put writes Value.
	Put
	// Delete removes.
	Delete
	// Swap writes Value if the key holds exactly Expected; "" means that it must be absent.
	Swap
	// Replace writes Value if the key exists.
	Replace
)

// Operation is one operation on one key as its client saw it. An empty value means an absent key.
type Operation struct {
	Client int
	Key    string
	Kind   Kind
	// Call and Return are when it began and ended, by one clock for all clients.
	Call, Return int64
	// Note says more, for people: which node was asked, and how.
	Note string

	Expected, Value string
	// Outcome is Done for an operation that was answered, be it with "the condition does not hold".
	Outcome Outcome
	// Found is what a Get found. Held is whether a Swap's or Replace's condition held, and whether what
	// was deleted existed.
	Found string
	Held  bool
	// Version is the version that the answer gave for Found, or for Value if Held; "" if none.
	Version string
}

// History collects operations. It is safe for concurrent use.
type History struct {
	mu struct {
		sync.Mutex
		operations []Operation
	}
}

// Add adds an operation that has ended. Those that were not done are left out: they must have no
// effect, and if one has, some read finds a value that nobody wrote.
func (h *History) Add(o Operation) {
	if o.Outcome == NotDone || o.Kind == Get && o.Outcome == Unknown {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.operations = append(h.mu.operations, o)
}

// Len returns how many operations there are.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mu.operations)
}

// byKey returns the operations of each key.
func (h *History) byKey() map[string][]Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := map[string][]Operation{}
	for _, o := range h.mu.operations {
		keys[o.Key] = append(keys[o.Key], o)
	}
	return keys
}

// checkVersions checks that each version belongs to one value and each value has one version.
func checkVersions(operations []Operation) error {
	valueOf, versionOf := map[string]string{}, map[string]string{}
	for i := range operations {
		o := &operations[i]
		value := o.Value
		if o.Kind == Get {
			value = o.Found
		}
		if o.Version == "" || value == "" {
			continue
		}
		if other, known := valueOf[o.Version]; known && other != value {
			return fmt.Errorf("version %s is that of %q and of %q", o.Version, other, value)
		}
		if other, known := versionOf[value]; known && other != o.Version {
			return fmt.Errorf("%q has versions %s and %s", value, other, o.Version)
		}
		valueOf[o.Version], versionOf[value] = value, o.Version
	}
	return nil
}
