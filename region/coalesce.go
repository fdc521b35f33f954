package region

import (
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// counterName names a counter in one entry.
type counterName struct{ namespace, key string }

// additions finds the counters that an entry does nothing to but add, more than once: the additions
// of one become one event, so that a counter that many add to costs no more than one that few do. It
// maps the number of each such command to those that it is run with.
func additions(commands []*logv1.Command) map[int][]int {
	adding := 0
	for _, c := range commands {
		if ops := c.GetWrite().GetOperations(); len(ops) == 1 && onlyAdds(c.GetWrite(), ops[0]) {
			adding++
		}
	}
	if adding < 2 {
		return nil
	}
	groups := map[counterName][]int{}
	mixed := map[counterName]bool{}
	for i, c := range commands {
		ops := c.GetWrite().GetOperations()
		for _, o := range ops {
			name := counterName{o.GetNamespace(), o.GetKey()}
			if len(ops) > 1 || !onlyAdds(c.GetWrite(), o) {
				mixed[name] = true
				continue
			}
			groups[name] = append(groups[name], i)
		}
		if c.GetWrite() == nil {
			return nil // merges name their keys in deltas; they come alone or seldom
		}
	}
	var found map[int][]int
	for name, members := range groups {
		if len(members) < 2 || mixed[name] {
			continue
		}
		if found == nil {
			found = map[int][]int{}
		}
		for _, i := range members {
			found[i] = members
		}
	}
	return found
}

func onlyAdds(w *logv1.WriteCommand, o *logv1.Operation) bool {
	return replica.OpKind(o.GetKind()) == replica.OpCounterAdd &&
		replica.ConditionKind(o.GetConditionKind()) == replica.CondNone && len(o.GetPath()) == 0 && w.GetQueue() == nil && !w.GetHome() && o.GetExpiresHlc() == 0
}

// addAll runs the additions of several commands to one counter as one event, and gives each the answer
// that it would have had alone. It reports false, and has done nothing, if they have to be run one by
// one.
func (a *application) addAll(now hlc.Time, commands []*logv1.Command, members []int, results []result) (bool, error) {
	start, err := a.counter(now, commands[members[0]].GetWrite().GetOperations()[0])
	if err != nil {
		return false, err
	}
	fresh, err := a.unknown(commands, members, results)
	if err != nil {
		return false, err
	}
	end, ok := addUp(start, commands, fresh)
	if !ok {
		return false, nil
	}
	if len(fresh) == 0 {
		return true, nil
	}
	op, err := decodeOperations(commands[fresh[0]].GetWrite().GetOperations())
	if err != nil {
		return false, nil // one by one, each has its own reason
	}
	op[0].Delta = end - start
	names := names(commands, fresh)
	outcomes, additions, err := a.execute(now, op, names...)
	if refused, other := refusal(err); other != nil {
		return false, other
	} else if refused.err != nil {
		return false, nil // one by one, each has its own reason
	}
	value := start
	for n, i := range fresh {
		w := commands[i].GetWrite()
		value += w.GetOperations()[0].GetDelta()
		each := outcomes[0]
		each.Counter = value
		each.Existed = each.Existed || n > 0
		results[i] = result{outcomes: []replica.Outcome{each}}
		if w.GetOpId() == "" {
			continue
		}
		var own []replica.Addition
		if len(additions) > 0 {
			own = append(own, additions[0])
			own[0].Amount = w.GetOperations()[0].GetDelta()
		}
		a.remember(w, names[0], results[i].outcomes, own)
		names = names[1:]
	}
	return true, nil
}

// names returns what those of the commands that have an op_id are called.
func names(commands []*logv1.Command, of []int) []replica.WriteID {
	var names []replica.WriteID
	for _, i := range of {
		if w := commands[i].GetWrite(); w.GetOpId() != "" {
			names = append(names, writeIDOf(w))
		}
	}
	return names
}

// unknown returns the commands whose op_id is not remembered, and answers the others.
func (a *application) unknown(commands []*logv1.Command, members []int, results []result) ([]int, error) {
	var fresh []int
	for _, i := range members {
		w := commands[i].GetWrite()
		if w.GetOpId() == "" {
			fresh = append(fresh, i)
			continue
		}
		known, err := a.recall(w)
		switch {
		case err != nil:
			return nil, err
		case known.err != nil || known.repeated:
			results[i] = known
		default:
			fresh = append(fresh, i)
		}
	}
	return fresh, nil
}

// addUp returns what a counter would be after the additions. It reports false if one would overflow,
// or an op_id is there twice.
func addUp(value int64, commands []*logv1.Command, members []int) (int64, bool) {
	for n, i := range members {
		w := commands[i].GetWrite()
		delta := w.GetOperations()[0].GetDelta()
		next := value + delta
		if delta != 0 && (next > value) != (delta > 0) || twice(commands, members[:n], w) {
			return 0, false
		}
		value = next
	}
	return value, true
}

// counter returns a counter's value, 0 if there is none.
func (a *application) counter(now hlc.Time, o *logv1.Operation) (int64, error) {
	object, _, err := a.replica.LookupType(o.GetNamespace(), o.GetKey(), crdt.TypeCounter, now)
	return object.Counter, err
}

// twice reports whether the same op_id is among commands already.
func twice(commands []*logv1.Command, among []int, w *logv1.WriteCommand) bool {
	return w.GetOpId() != "" && slices.ContainsFunc(among, func(i int) bool {
		return commands[i].GetWrite().GetOpId() == w.GetOpId()
	})
}
