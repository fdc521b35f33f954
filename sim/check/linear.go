package check

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"golang.org/x/sync/errgroup"
)

// Verdict is what the judgement of a history says.
type Verdict struct {
	Keys, Operations, Unknown int
	// Illegal are keys whose history no order of its operations explains, Undecided those for which
	// that could not be told in time.
	Illegal, Undecided []string
	// Versions says what is wrong with versions, by key.
	Versions map[string]error
}

// Linearizable judges a history key by key, several at once, and spends at most patience on a key.
func (h *History) Linearizable(patience time.Duration, parallel int) *Verdict {
	keys := h.byKey()
	v := &Verdict{Keys: len(keys), Versions: map[string]error{}}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		operations := keys[key]
		v.Operations += len(operations)
		for i := range operations {
			if operations[i].Outcome == Unknown {
				v.Unknown++
			}
		}
		group.Go(func() error {
			result := porcupine.CheckOperationsTimeout(model(), forPorcupine(operations), patience)
			err := checkVersions(operations)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case result == porcupine.Illegal:
				v.Illegal = append(v.Illegal, key)
			case result == porcupine.Unknown:
				v.Undecided = append(v.Undecided, key)
			}
			if err != nil {
				v.Versions[key] = err
			}
			return nil
		})
	}
	_ = group.Wait() // no judgement returns an error
	slices.Sort(v.Illegal)
	slices.Sort(v.Undecided)
	return v
}

// Visualize writes a page that shows why a key's history is illegal.
func (h *History) Visualize(key, file string, patience time.Duration) error {
	_, info := porcupine.CheckOperationsVerbose(model(), forPorcupine(h.byKey()[key]), patience)
	return porcupine.VisualizePath(model(), info, file)
}

// forPorcupine says the same in porcupine's words. An operation whose outcome is unknown may take
// effect at any time after its call, or never: it returns after everything else.
func forPorcupine(operations []Operation) []porcupine.Operation {
	out := make([]porcupine.Operation, len(operations))
	for i := range operations {
		o := &operations[i]
		out[i] = porcupine.Operation{ClientId: o.Client, Input: o, Output: o, Call: o.Call, Return: o.Return}
		if o.Outcome == Unknown {
			out[i].Return = math.MaxInt64
		}
	}
	return out
}

// model is one register that can be absent. Its state is its value.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, input, _ any) (bool, any) {
			now, ok := state.(string)
			o, isOperation := input.(*Operation)
			if !ok || !isOperation {
				return false, state
			}
			return step(now, o)
		},
		DescribeOperation: func(input, _ any) string { return describe(input) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%q", state) },
	}
}

// step returns whether the operation can have happened in this state, and the state after it.
func step(now string, o *Operation) (bool, string) {
	holds, after := true, o.Value
	switch o.Kind {
	case Get:
		return o.Found == now, now
	case Put:
		return true, o.Value
	case Delete:
		holds, after = now != "", ""
	case Swap:
		holds = now == o.Expected
	case Replace:
		holds = now != ""
	}
	possible := o.Outcome == Unknown || holds == o.Held
	if !holds {
		after = now
	}
	return possible, after
}

func describe(input any) string {
	o, ok := input.(*Operation)
	if !ok {
		return "?"
	}
	outcome := fmt.Sprintf("held %v", o.Held)
	if o.Outcome == Unknown {
		outcome = "unknown"
	}
	switch o.Kind {
	case Get:
		return fmt.Sprintf("get: %q (%s)", o.Found, o.Note)
	case Put:
		return fmt.Sprintf("put %q: %s (%s)", o.Value, outcome, o.Note)
	case Delete:
		return fmt.Sprintf("delete: %s (%s)", outcome, o.Note)
	case Swap:
		return fmt.Sprintf("swap %q for %q: %s (%s)", o.Expected, o.Value, outcome, o.Note)
	default:
		return fmt.Sprintf("replace by %q: %s (%s)", o.Value, outcome, o.Note)
	}
}
