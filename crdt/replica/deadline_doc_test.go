package replica

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

const deadlinesHead = `
## Time to live

The same of every type but registers, which are above, and bounded counters, which cannot expire: a value that is there to begin
with, expiring at 9 if it says so, what two regions do to it at once, and what both hold in the end: the value, when it
expires, or that it is absent.

| before | one region | the other | both hold, the second being later | both hold, the first being later |
|---|---|---|---|---|
`

// expiryNow stands for the expiry that a region does on its own once the value has expired.
const expiryNow OpKind = 255

// deadlineOutcomes plays every pair with every type, in both orders, and returns the table.
func deadlineOutcomes(t *testing.T) string {
	t.Helper()
	const write, more OpKind = 254, 253
	expire := func(at int64) Op { return until(Op{Kind: OpExpire}, at) }
	var page strings.Builder
	page.WriteString(deadlinesHead)
	for _, row := range []struct {
		before, a, b Op
		late         bool
		said         [3]string
	}{
		{before: Op{Kind: write}, a: expire(5000), b: expire(8000), said: [3]string{"stays", "expire at 5", "expire at 8"}},
		{before: until(Op{Kind: write}, 9000), a: expire(5000), b: Op{Kind: OpPersist}, said: [3]string{"expires at 9", "expire at 5", "persist"}},
		{before: Op{Kind: write}, a: expire(5000), b: Op{Kind: more}, said: [3]string{"stays", "expire at 5", "write"}},
		{before: until(Op{Kind: write}, 9000), a: until(Op{Kind: more}, 5000), b: Op{Kind: more}, said: [3]string{"expires at 9", "write, to expire at 5", "write"}},
		{a: until(Op{Kind: write}, 5000), b: Op{Kind: more}, said: [3]string{"absent", "write, to expire at 5", "write"}},
		{before: until(Op{Kind: write}, 9000), a: expire(5000), b: Op{Kind: OpDelete}, said: [3]string{"expires at 9", "expire at 5", "delete"}},
		{before: until(Op{Kind: write}, 9000), a: Op{Kind: OpDelete}, b: Op{Kind: OpPersist}, said: [3]string{"expires at 9", "delete", "persist"}},
		{before: until(Op{Kind: write}, 9000), late: true, a: Op{Kind: expiryNow}, b: Op{Kind: more}, said: [3]string{"expires at 9", "it expires", "write after 9"}},
		{before: until(Op{Kind: write}, 9000), late: true, a: Op{Kind: expiryNow}, b: until(Op{Kind: more}, 20000), said: [3]string{"expires at 9", "it expires", "write after 9, to expire at 20"}},
		{before: until(Op{Kind: write}, 9000), late: true, a: Op{Kind: expiryNow}, b: Op{Kind: expiryNow}, said: [3]string{"expires at 9", "it expires", "it expires"}},
	} {
		outcome := func(secondIsLater bool) string {
			var all []string
			for _, e := range expiringTypes {
				as := func(op Op) Op {
					if op.Kind == write || op.Kind == more {
						expires := op.Expires
						// The two differ, but both change a maximum or a minimum.
						op = e.write(map[OpKind]int{write: 1, more: 2}[op.Kind])
						op.Expires = expires
					}
					return op
				}
				all = append(all, deadlineOutcome(t, e.of, as(row.before), [2]Op{as(row.a), as(row.b)}, row.late, secondIsLater))
			}
			if distinct := slices.Compact(slices.Clone(all)); len(distinct) > 1 {
				t.Errorf("%v: types differ: %q", row.said, all)
			}
			return all[0]
		}
		second, first := outcome(true), outcome(false)
		if first == second {
			first = "the same"
		}
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s |\n", row.said[0], row.said[1], row.said[2], second, first)
	}
	return page.String()
}

// deadlineOutcome plays a pair of operations on a value of a type.
func deadlineOutcome(t *testing.T, of crdt.Type, before Op, ops [2]Op, late, secondIsLater bool) string {
	t.Helper()
	p := newPair(t, of)
	if before.Kind != 0 {
		p.both(1000, before)
	}
	times := [2]int64{2000, 3000}
	if late {
		times = [2]int64{10000, 11000}
	}
	if !secondIsLater {
		slices.Reverse(times[:])
	}
	var deltas [2][]Delta
	for i, n := range []*node{p.a, p.b} {
		if ops[i].Kind == expiryNow {
			deltas[i] = p.expire(n, Expiry{Now: at(times[i]), Others: at(times[i])}).Deltas
			continue
		}
		_, deltas[i] = p.run(n, times[i], ops[i])
	}
	merge(t, p.b.r, deltas[0]...)
	merge(t, p.a.r, deltas[1]...)
	p.converged()
	const now = 4000
	expires, found := p.sees(p.a, now)
	e, f := p.sees(p.b, now)
	switch {
	case e != expires || f != found:
		t.Fatalf("%v: %+v: one region sees %v %v, the other %v %v", of, ops, expires, found, e, f)
	case !found:
		return "absent"
	case expires == 0:
		return "stays"
	}
	return fmt.Sprintf("expires at %d", expires.Wall().UnixMilli()/1000)
}
