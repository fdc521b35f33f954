package protocol

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
)

// auditing compares the state here with that there, with what surrounds an auditor. A value's name is what is before the
// slash of an item's.
type auditing struct {
	t           *testing.T
	rng         *rand.Rand
	core        *Auditor
	now         time.Time
	here, there mapState
	// at are the events that each side has applied, written what happens to the other side while a view is pinned.
	at      [2]uint64
	written func(x *auditing)
	views   map[uint64]mapState
	mine    map[uint64]mapState
	last    uint64
	failing float64
	window  int
	asked   map[ResyncWant]int
}

func newAuditing(t *testing.T, seed uint64) *auditing {
	tuning := DefaultTuning()
	tuning.ResyncItems, tuning.ResyncRanges = 5, 4
	return &auditing{
		t: t, rng: rand.New(rand.NewPCG(seed, 8)), core: NewAuditor(tuning, NewBudget(tuning.ResyncRate), 2), now: epoch,
		here: mapState{}, there: mapState{}, at: [2]uint64{7, 7}, written: func(*auditing) {},
		views: map[uint64]mapState{}, mine: map[uint64]mapState{}, window: 3, asked: map[ResyncWant]int{},
	}
}

func auditVector(seq uint64) (v crdt.VersionVector) {
	v.Set(65, seq)
	return v
}

// run does what the auditor wants until it has a report.
func (x *auditing) run() AuditReport {
	x.t.Helper()
	for n := 0; ; n++ {
		if n > 20_000 {
			x.t.Fatalf("not at the end: %+v", x.core)
		}
		a := x.core.Action(x.now)
		lost := x.rng.Float64() < x.failing
		switch a.Kind {
		case AuditDone:
			return x.core.Report()
		case AuditWait:
			if !a.Until.After(x.now) {
				x.t.Fatalf("it waits until %v at %v", a.Until, x.now)
			}
			x.now = a.Until
		case AuditAsk:
			x.asked[a.Request.Want]++
			res, err := x.answer(a.Request)
			if lost {
				res, err = ResyncResponse{}, errors.New("lost")
			}
			x.core.Answered(res, err, x.now)
		case AuditPin:
			x.pin(lost)
		case AuditCompare:
			same := make([]bool, len(a.Ranges))
			for i, r := range a.Ranges {
				same[i] = x.mine[a.View].sum(string(r.From), string(r.To)) == r.Sum
			}
			x.core.Compared(same, string(a.Ranges[len(a.Ranges)-1].To) == mapEnd, nil, x.now)
		case AuditName:
			differ, next := x.name(x.mine[a.View], a.Window)
			x.core.Named(differ, next, nil, x.now)
		case AuditRelease:
			delete(x.mine, a.View)
			x.core.Released()
		}
	}
}

func (x *auditing) pin(lost bool) {
	x.written(x)
	if lost {
		x.core.Pinned(0, crdt.VersionVector{}, errors.New("disk"), x.now)
		return
	}
	x.last++
	x.mine[x.last] = maps.Clone(x.here)
	x.core.Pinned(x.last, auditVector(x.at[0]), nil, x.now)
}

func (x *auditing) answer(want ResyncRequest) (res ResyncResponse, err error) {
	if want.Want == WantAudit {
		if x.rng.IntN(2) == 0 {
			return ResyncResponse{Refused: RefusedNow}, nil
		}
		x.last++
		clear(x.views) // one at a time
		x.views[x.last] = maps.Clone(x.there)
		return ResyncResponse{View: x.last, Vector: auditVector(x.at[1])}, nil
	}
	view, ok := x.views[want.View]
	switch {
	case !ok:
		return ResyncResponse{Refused: RefusedView}, nil
	case want.Want == WantClose:
		delete(x.views, want.View)
	case want.Want == WantRanges:
		donor := newTaking(x.t, 1)
		donor.regions[2], donor.views[want.View] = view, view
		return donor.answer(2, want)
	case want.Want == WantItems:
		keys := view.keys(string(want.From), string(want.To))
		if n := 1 + x.rng.IntN(x.window); n < len(keys) {
			res.Next, keys = []byte(keys[n]), keys[:n]
		}
		for _, k := range keys {
			res.Items = append(res.Items, StateItem{[]byte(k), view.hash(k)})
		}
	}
	return res, nil
}

func (s mapState) hash(key string) (h [16]byte) {
	copy(h[:], s[key])
	return h
}

// name compares a window item by item, a few at a time.
func (x *auditing) name(state mapState, w ItemWindow) (differ []DifferingValue, next []byte) {
	keys := state.keys(string(w.From), string(w.To))
	next = w.To
	if n := len(w.Items) + x.window; n < len(keys) {
		next, keys = []byte(keys[n]), keys[:n]
	}
	here, there := map[string][16]byte{}, map[string][16]byte{}
	for _, k := range keys {
		here[k] = state.hash(k)
	}
	for _, i := range w.Items {
		if bytes.Compare(i.Position, next) < 0 {
			there[string(i.Position)] = i.Hash
		}
	}
	return differences(here, there), next
}

func differences(here, there map[string][16]byte) (all []DifferingValue) {
	found := map[string]*DifferingValue{}
	of := func(item string) *DifferingValue {
		key, _, _ := strings.Cut(item, "/")
		if found[key] == nil {
			found[key] = &DifferingValue{Key: key}
		}
		return found[key]
	}
	for k, hash := range here {
		if other, both := there[k]; !both {
			of(k).OnlyHere++
		} else if hash != other {
			of(k).Changed++
		}
	}
	for k := range there {
		if _, both := here[k]; !both {
			of(k).OnlyThere++
		}
	}
	for _, d := range found {
		all = append(all, *d)
	}
	slices.SortFunc(all, func(a, b DifferingValue) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

// want is what an audit has to find.
func (x *auditing) want() []DifferingValue {
	here, there := map[string][16]byte{}, map[string][16]byte{}
	for k := range x.here {
		here[k] = x.here.hash(k)
	}
	for k := range x.there {
		there[k] = x.there.hash(k)
	}
	return differences(here, there)
}

// fill gives both sides the same values, of several items each.
func (x *auditing) fill(values int) {
	for i := range values {
		for j := range 1 + x.rng.IntN(9) {
			x.here[fmt.Sprintf("k%04d/%d", i, j)] = "v"
		}
	}
	x.there = maps.Clone(x.here)
}

// damage changes items on either side.
func (x *auditing) damage(items int) {
	keys := slices.Sorted(maps.Keys(x.here))
	for range items {
		side := []mapState{x.here, x.there}[x.rng.IntN(2)]
		k := keys[x.rng.IntN(len(keys))]
		switch x.rng.IntN(3) {
		case 0:
			delete(side, k)
		case 1:
			side[k] = fmt.Sprint("w", x.rng.IntN(3))
		default:
			side[k+"x"] = "more"
		}
	}
}

func (x *auditing) closed() {
	x.t.Helper()
	if len(x.mine) != 0 || len(x.views) != 0 {
		x.t.Errorf("%d views are left here, %d there", len(x.mine), len(x.views))
	}
}

// TestAuditOfEqualStates reads fingerprints only.
func TestAuditOfEqualStates(t *testing.T) {
	for _, values := range []int{0, 1, 100} {
		x := newAuditing(t, 1)
		x.fill(values)
		r := x.run()
		if r.State != AuditEqual || len(r.Values) != 0 || r.Items != uint64(len(x.there)) || r.Ranges == 0 || x.asked[WantItems] != 0 {
			t.Errorf("%d values: %+v, asked %v", values, r, x.asked)
		}
		x.closed()
	}
}

// TestAuditNamesExactlyWhatDiffers, whatever is lost, and whichever views go meanwhile.
func TestAuditNamesExactlyWhatDiffers(t *testing.T) {
	for seed := range uint64(300) {
		x := newAuditing(t, seed+1)
		x.failing, x.window = x.rng.Float64()/3, 1+x.rng.IntN(6)
		x.fill(30)
		x.damage(1 + x.rng.IntN(20))
		want, left := x.want(), 3
		x.written = func(x *auditing) {
			if left--; left > 0 && x.rng.IntN(2) == 0 {
				clear(x.views) // the other region's leader changes
			}
		}
		r := x.run()
		state := AuditDiffers
		if len(want) == 0 {
			state = AuditEqual
		}
		if r.State != state || r.More || !slices.Equal(r.Values, want) || r.Items != uint64(len(x.there)) || r.Why != "" {
			t.Fatalf("seed %d: %+v, want %+v", seed, r, want)
		}
		if len(x.mine) != 0 {
			t.Fatalf("seed %d: a view is left here", seed)
		}
	}
}

// TestAuditWaitsForEqualVectors, and says nothing of states that are of different ones.
func TestAuditWaitsForEqualVectors(t *testing.T) {
	x := newAuditing(t, 1)
	x.fill(30)
	x.damage(10)
	want, pins := x.want(), 0
	x.written = func(x *auditing) {
		if pins++; pins < 4 {
			x.at[0]++
			return
		}
		x.at[0] = x.at[1]
	}
	if r := x.run(); r.State != AuditDiffers || r.Attempts != 3 || !slices.Equal(r.Values, want) {
		t.Errorf("after three pairs of no use: %+v", r)
	}
	x.closed()

	x = newAuditing(t, 1)
	x.fill(30)
	x.damage(10)
	x.at[1]++
	r := x.run()
	if r.State != AuditFailed || r.Attempts != DefaultTuning().AuditAttempts || len(r.Values) != 0 || r.Ranges != 0 || !strings.Contains(r.Why, "same events") {
		t.Errorf("never at one vector: %+v", r)
	}
	if waited := x.now.Sub(epoch); waited < 10*time.Second || waited > time.Minute {
		t.Errorf("after %v", waited)
	}
	x.closed()
}

// TestAuditGivesUp when nobody answers, in bounded time.
func TestAuditGivesUp(t *testing.T) {
	x := newAuditing(t, 1)
	x.failing = 1
	if r := x.run(); r.State != AuditFailed || !strings.Contains(r.Why, "lost") || x.now.Sub(epoch) > 5*time.Minute {
		t.Errorf("after %v: %+v", x.now.Sub(epoch), r)
	}
}

// TestAuditNamesABoundedNumber, and reads no more items then.
func TestAuditNamesABoundedNumber(t *testing.T) {
	x := newAuditing(t, 1)
	x.fill(200)
	x.there = mapState{}
	for k := range x.here {
		x.there[k] = "other"
	}
	r := x.run()
	if r.State != AuditDiffers || len(r.Values) != MaxAuditValues || !r.More || r.Ranges != r.Differing || r.Items != uint64(len(x.there)) {
		t.Errorf("%d values, more: %v; %d of %d ranges differ", len(r.Values), r.More, r.Differing, r.Ranges)
	}
	if r.Values[0].Key != "k0000" || x.asked[WantItems] > MaxAuditValues*9 {
		t.Errorf("%+v first, asked %v", r.Values[0], x.asked)
	}
	x.closed()
}

// TestAuditKeepsToTheBudget of the node's transfers.
func TestAuditKeepsToTheBudget(t *testing.T) {
	x := newAuditing(t, 1)
	x.core.budget = NewBudget(100)
	x.fill(100)
	r := x.run()
	if least := time.Duration(r.Bytes/100-1) * time.Second; r.Bytes < 1000 || x.now.Sub(epoch) < least {
		t.Errorf("%d bytes in %v", r.Bytes, x.now.Sub(epoch))
	}
}

// TestGoldenAuditFrames: regions with different programs have to understand each other.
func TestGoldenAuditFrames(t *testing.T) {
	eu, us := resyncKeys()
	for _, c := range []struct {
		asked             ResyncRequest
		res               ResyncResponse
		request, response string
	}{
		{
			ResyncRequest{Want: WantAudit, Nonce: 7}, ResyncResponse{View: 9, Donor: auditVector(5).Append(nil), Vector: auditVector(5)},
			"41540214cb02cb870000004120eb33c73490464a5e9ef2409ef8547b075dc12c0a0163100518072807", "41540215bf7513010000004220eb33c7b4b1ad2ce8c820b3aaf23722b90c4cbe10091a03014105",
		},
		{
			ResyncRequest{Want: WantItems, View: 9, From: []byte("a"), To: []byte("c"), MaxBytes: 100, Nonce: 7},
			ResyncResponse{Items: []StateItem{{[]byte("a"), [16]byte{1}}}, Next: []byte("b")},
			"415402148692a79a0000004120eb33c716184569c3b4d2cccbbacfdb621c17210a016310051807200928083201613a01635064", "415402158384800a0000004220eb33c7423d8ab3a691711ba4042da31b9660e83201623a150a0161121001000000000000000000000000000000",
		},
	} {
		request, err := eu.EncodeResyncRequest(5, 2, c.asked)
		if err != nil || hex.EncodeToString(request) != c.request {
			t.Errorf("request %x, %v", request, err)
		}
		asked, err := us.DecodeResyncRequest(5, request)
		if err != nil || fmt.Sprint(asked.ResyncRequest) != fmt.Sprint(c.asked) {
			t.Fatalf("%+v came back as %+v, %v", c.asked, asked, err)
		}
		response, err := us.EncodeResyncResponse(asked, c.res)
		if err != nil || hex.EncodeToString(response) != c.response {
			t.Errorf("response %x, %v", response, err)
		}
		if res, err := eu.DecodeResyncResponse(2, c.asked, response); err != nil || fmt.Sprint(res) != fmt.Sprint(c.res) {
			t.Errorf("%+v came back as %+v, %v", c.res, res, err)
		}
		other := c.asked
		other.Nonce++
		if _, err := eu.DecodeResyncResponse(2, other, response); !errors.Is(err, ErrForged) {
			t.Errorf("for another request: %v", err)
		}
	}
}
