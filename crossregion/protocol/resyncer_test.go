package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// The states of these tests are maps; a position is a key, "~" the end, and writes are lines of text.
type mapState map[string]string

const mapEnd = "~"

func (s mapState) keys(from, to string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s)), func(k string) bool { return k < from || k >= to })
}

func (s mapState) text(from, to string) string {
	var b strings.Builder
	for _, k := range s.keys(from, to) {
		fmt.Fprintf(&b, "%s=%s\n", k, s[k])
	}
	return b.String()
}

func (s mapState) sum(from, to string) (sum [16]byte) {
	for i, c := range []byte(s.text(from, to)) {
		sum[i%16] = sum[i%16]*31 + c
	}
	return sum
}

// taking is a partition that takes a state over, with what surrounds its resyncer.
type taking struct {
	t      *testing.T
	rng    *rand.Rand
	core   *Resyncer
	now    time.Time
	state  mapState
	at     Transfer
	writes []string
	ended  uint64 // the view that was taken over
	// views are those that are open, by number.
	views           map[uint64]mapState
	regions         map[topology.RegionID]mapState
	lastView        uint64
	chunks, hiddens int
	steps           []TransferStep
	asked           map[topology.RegionID]int
	failing         float64
}

func newTaking(t *testing.T, seed uint64) *taking {
	x := &taking{
		t: t, rng: rand.New(rand.NewPCG(seed, 5)), now: epoch, state: mapState{}, views: map[uint64]mapState{},
		regions: map[topology.RegionID]mapState{}, asked: map[topology.RegionID]int{}, lastView: seed << 20,
	}
	x.lead()
	return x
}

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func (x *taking) lead() {
	tuning := DefaultTuning()
	tuning.ResyncItems, tuning.ResyncRanges = 5, 4
	x.core = NewResyncer(tuning, NewBudget(tuning.ResyncRate))
}

func (x *taking) lost() bool { return x.rng.Float64() < x.failing }

// turn does one action, and reports whether there was one.
func (x *taking) turn(donors ...topology.RegionID) bool {
	x.core.Want(donors)
	x.core.Is(x.at)
	switch a := x.core.Action(x.now); a.Kind {
	case ResyncAsk:
		x.asked[a.Donor]++
		res, err := x.answer(a.Donor, a.Request)
		if x.lost() {
			res, err = ResyncResponse{}, errors.New("lost")
		}
		x.core.Answered(a.Donor, res, err, x.now)
	case ResyncCompare:
		same := make([]bool, len(a.Ranges))
		for i, r := range a.Ranges {
			same[i] = x.state.sum(string(r.From), string(r.To)) == r.Sum
		}
		x.core.Compared(a.Ranges, same, nil, x.now)
	case ResyncStep:
		x.steps = append(x.steps, a.Step)
		err := x.step(a.Step)
		if x.lost() {
			err = errors.New("outcome unknown")
		}
		x.core.Stepped(a.Step, x.at, err, x.now)
	default:
		if a.Until.IsZero() {
			return false
		}
		x.now = a.Until
	}
	return true
}

func (x *taking) answer(donor topology.RegionID, want ResyncRequest) (res ResyncResponse, err error) {
	state, ok := x.regions[donor]
	if !ok {
		return res, errors.New("nobody answers")
	}
	if want.Want == WantView {
		x.lastView++
		x.views[x.lastView] = maps.Clone(state)
		return ResyncResponse{View: x.lastView, Donor: []byte(fmt.Sprint(donor))}, nil
	}
	view, ok := x.views[want.View]
	if !ok {
		return ResyncResponse{Refused: RefusedView}, nil
	}
	from, to := string(want.From), string(want.To)
	switch want.Want {
	case WantClose:
		delete(x.views, want.View)
	case WantWrites:
		if len(want.From) == 0 {
			return ResyncResponse{Data: []byte("w1"), Next: []byte("2")}, nil
		}
		return ResyncResponse{Data: []byte("w2")}, nil
	case WantRanges:
		for keys := view.keys(from, mapEnd); len(res.Ranges) < want.Ranges; {
			n := min(want.Items, len(keys))
			to := mapEnd
			if n < len(keys) {
				to = keys[n]
			}
			res.Ranges = append(res.Ranges, StateRange{[]byte(from), []byte(to), view.sum(from, to), uint64(n)})
			if from, keys = to, keys[n:]; to == mapEnd {
				break
			}
		}
	default:
		keys := view.keys(from, to)
		if n := 1 + x.rng.IntN(8); n < len(keys) { // more than there is room for
			to = keys[n]
		}
		hidden := ""
		if want.Want == WantHidden {
			hidden = "same"
		}
		res.Data = fmt.Appendf(nil, "%s\n%s\n%s\n%s", from, to, hidden, view.text(from, to))
	}
	return res, nil
}

func (x *taking) step(s TransferStep) error {
	switch s.Kind {
	case StepBegin:
		donor := topology.RegionID(s.Data[0] - '0')
		if maps.Equal(x.state, x.views[s.ID]) {
			return ErrNothingNew
		}
		x.at = Transfer{ID: s.ID, Donor: donor, Cursor: []byte{}}
		return nil
	case StepAbandon:
		x.at = Transfer{}
		return nil
	}
	if s.ID != x.at.ID || x.at.ID == 0 {
		return ErrNoTransfer
	}
	switch s.Kind {
	case StepChunk:
		return x.join(s.Data)
	case StepWrites:
		x.writes = append(x.writes, string(s.Data))
	case StepEnd:
		if !x.at.End {
			x.t.Error("ended before the end")
		}
		x.ended, x.at = s.ID, Transfer{}
	}
	return nil
}

func (x *taking) join(chunk []byte) error {
	parts := bytes.SplitN(chunk, []byte("\n"), 4)
	from, to := string(parts[0]), string(parts[1])
	cursor := string(x.at.Cursor)
	switch {
	case from > cursor:
		return ErrNoTransfer
	case to <= cursor:
		return nil
	case len(parts[2]) > 0:
		if x.hiddens++; x.state.text(from, to) != string(parts[3]) {
			return ErrRangeDiffers
		}
	default:
		x.chunks++
		for _, k := range x.state.keys(from, to) {
			delete(x.state, k)
		}
		for line := range strings.Lines(string(parts[3])) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			x.state[k] = v
		}
	}
	x.at.Cursor, x.at.End = []byte(to), to == mapEnd
	return nil
}

func filled(keys int, value string) mapState {
	s := mapState{}
	for i := range keys {
		s[fmt.Sprintf("k%04d", i)] = value
	}
	return s
}

// TestResyncerTakesOverWhatDiffers and nothing else, once, with the writes, and lets the view go.
func TestResyncerTakesOverWhatDiffers(t *testing.T) {
	x := newTaking(t, 1)
	x.state, x.regions[2] = filled(300, "v"), filled(300, "v")
	x.regions[2]["k0100"], x.regions[2]["k0101x"] = "new", "more"
	for x.ended == 0 {
		x.turn(2)
	}
	for x.turn() {
	}
	if !maps.Equal(x.state, x.regions[2]) || !slices.Equal(x.writes, []string{"w1", "w2"}) || len(x.views) != 0 {
		t.Errorf("after the end: %d keys, writes %q, %d views", len(x.state), x.writes, len(x.views))
	}
	if x.chunks > 6 || x.hiddens < 58 {
		t.Errorf("%d chunks, and %d ranges that are the same", x.chunks, x.hiddens)
	}
	for _, s := range x.steps {
		if s.Kind == StepAbandon {
			t.Error("given up")
		}
	}
}

// TestResyncerGoesOnWhateverFails: answers and outcomes are lost, leaders change, views go, and the state changes
// here and at the donor.
func TestResyncerGoesOnWhateverFails(t *testing.T) {
	for seed := range uint64(200) {
		x := newTaking(t, seed+1)
		x.failing = x.rng.Float64() / 2
		x.state, x.regions[2] = filled(100, "v"), filled(120, "w")
		views := map[uint64]mapState{}
		for n := 0; x.ended == 0; n++ {
			if n > 20_000 {
				t.Fatalf("seed %d: not at the end: %+v", seed, x.core)
			}
			x.turn(2)
			maps.Copy(views, x.views)
			switch x.rng.IntN(60) {
			case 0:
				x.lead()
			case 1:
				x.regions[2][fmt.Sprintf("k%04d", x.rng.IntN(200))] = "late"
			case 2:
				if x.rng.IntN(4) == 0 {
					clear(x.views) // the donor's leader changes
				}
			}
		}
		if want := views[x.ended]; !maps.Equal(x.state, want) {
			t.Fatalf("seed %d: the state is not that of the view", seed)
		}
	}
}

// TestResyncerAsksTheNextDonor when one does not answer, or has nothing new.
func TestResyncerAsksTheNextDonor(t *testing.T) {
	x := newTaking(t, 1)
	x.regions[4] = filled(50, "v") // 2 is away
	x.regions[3] = mapState{}      // it has what is here
	for x.ended == 0 {
		x.turn(2, 3, 4)
	}
	if x.asked[2] == 0 || x.asked[3] == 0 || !maps.Equal(x.state, x.regions[4]) {
		t.Errorf("asked were %v", x.asked)
	}
	if waited := x.now.Sub(epoch); waited < DefaultTuning().DonorWait || waited > 2*DefaultTuning().DonorWait {
		t.Errorf("after %v", waited)
	}
}

// TestResyncerGivesUpWhatIsNotNeeded: a transfer whose view is gone when nobody needs it any more.
func TestResyncerGivesUpWhatIsNotNeeded(t *testing.T) {
	x := newTaking(t, 1)
	x.state, x.regions[2] = filled(100, "v"), filled(120, "w")
	for x.chunks == 0 {
		x.turn(2)
	}
	clear(x.views)
	for x.turn() {
	}
	if x.at.ID != 0 || x.ended != 0 {
		t.Errorf("%+v is under way", x.at)
	}
}

// TestTransfersShareABudget of bytes a second.
func TestTransfersShareABudget(t *testing.T) {
	b := NewBudget(1000)
	first, second := b.Spend(500, epoch), b.Spend(1000, epoch)
	if first != epoch.Add(500*time.Millisecond) || second != epoch.Add(1500*time.Millisecond) {
		t.Errorf("until %v, then %v", first, second)
	}
	if later := b.Spend(1000, epoch.Add(time.Hour)); later != epoch.Add(time.Hour+time.Second) {
		t.Errorf("an hour later until %v", later)
	}
	r := NewResyncer(DefaultTuning(), b)
	r.Want([]topology.RegionID{2})
	r.Action(epoch.Add(2 * time.Hour))
	r.Answered(2, ResyncResponse{View: 1, Donor: make([]byte, 10_000)}, nil, epoch.Add(2*time.Hour))
	if a := r.Action(epoch.Add(2 * time.Hour)); a.Kind != ResyncWait || a.Until != epoch.Add(2*time.Hour+10*time.Second) {
		t.Errorf("the next action is %+v", a)
	}
}

// TestAViewIsGivenAgain to the region that it was opened for, until that reads it.
func TestAViewIsGivenAgain(t *testing.T) {
	var d Donations
	d.Opened(2, 7, []byte("d"), epoch)
	for _, c := range []struct {
		by  topology.RegionID
		at  time.Duration
		has bool
	}{{2, 0, true}, {2, viewKept, true}, {3, 0, false}, {2, viewKept + 1, false}} {
		if view, _, ok := d.Of(c.by, epoch.Add(c.at)); ok != c.has || ok && view != 7 {
			t.Errorf("%+v: %d, %v", c, view, ok)
		}
	}
	d.Read(2, 6)
	if _, _, ok := d.Of(2, epoch); !ok {
		t.Error("reading another view takes it away")
	}
	d.Read(2, 7)
	if _, _, ok := d.Of(2, epoch); ok {
		t.Error("it is given again although it was read")
	}
}

func resyncKeys() (eu, us *Keys) {
	derive := func(purpose string) (k [32]byte) { copy(k[:], purpose[len(purpose)-20:]); return k }
	a, b := topology.Actor(1, 1), topology.Actor(2, 1)
	return NewKeys("c", a, []crdt.Actor{b}, derive), NewKeys("c", b, []crdt.Actor{a}, derive)
}

func TestResyncMessagesAreReadAsWritten(t *testing.T) {
	eu, us := resyncKeys()
	want := ResyncRequest{Want: WantRanges, View: 9, From: []byte("a"), Items: 10, Ranges: 3, Nonce: 77}
	frame, err := eu.EncodeResyncRequest(5, 2, want)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := us.DecodeResyncRequest(5, frame)
	if err != nil || asked.By != 1 || asked.View != 9 || string(asked.From) != "a" || asked.Items != 10 || asked.Ranges != 3 || asked.Nonce != 77 {
		t.Fatalf("%+v, %v", asked, err)
	}
	res := ResyncResponse{Ranges: []StateRange{{[]byte("a"), []byte("b"), [16]byte{1}, 5}, {[]byte("b"), []byte("c"), [16]byte{2}, 6}}}
	response, err := us.EncodeResyncResponse(asked, res)
	if err != nil {
		t.Fatal(err)
	}
	got, err := eu.DecodeResyncResponse(2, want, response)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(res) {
		t.Errorf("%+v, %v", got, err)
	}
	other := want
	other.Nonce++
	if _, err := eu.DecodeResyncResponse(2, other, response); !errors.Is(err, ErrForged) {
		t.Errorf("for another request: %v", err)
	}
	if _, err := us.DecodeResyncRequest(6, frame); !errors.Is(err, ErrOtherPartition) {
		t.Errorf("for another partition: %v", err)
	}
}

// items returns some with positions of so many bytes.
func items(n, bytes int) (all []StateItem) {
	for range n {
		all = append(all, StateItem{Position: make([]byte, bytes)})
	}
	return all
}

// TestBadResyncMessagesAreRefused that are authentic, and that no region sends.
func TestBadResyncMessagesAreRefused(t *testing.T) {
	eu, us := resyncKeys()
	for name, bad := range map[string]ResyncRequest{
		"nothing":         {View: 1},
		"unknown":         {Want: WantItems + 1, View: 1},
		"no view":         {Want: WantChunk},
		"view of a view":  {Want: WantView, View: 1},
		"audit of a view": {Want: WantAudit, View: 1},
		"no view's items": {Want: WantItems},
		"long position":   {Want: WantChunk, View: 1, From: make([]byte, maxPositionBytes+1)},
		"no ranges":       {Want: WantRanges, View: 1, Items: 1},
		"ranges of none":  {Want: WantRanges, View: 1, Ranges: 1},
		"long other end ": {Want: WantHidden, View: 1, To: make([]byte, maxPositionBytes+1)},
	} {
		frame, err := eu.EncodeResyncRequest(0, 2, bad)
		if err != nil {
			t.Fatal(err)
		}
		if asked, err := us.DecodeResyncRequest(0, frame); err == nil {
			t.Errorf("%s: %+v", name, asked)
		}
	}
	huge := ResyncRequest{Want: WantRanges, View: 1, Items: 1 << 30, Ranges: 1 << 30, MaxBytes: 1 << 30}
	frame, err := eu.EncodeResyncRequest(0, 2, huge)
	if err != nil {
		t.Fatal(err)
	}
	if asked, err := us.DecodeResyncRequest(0, frame); err != nil || asked.Items*asked.Ranges > maxRangeItems || asked.Ranges > maxRanges || asked.MaxBytes > maxChunkBytes {
		t.Errorf("%+v, %v", asked, err)
	}
	for name, c := range map[string]struct {
		asked ResyncRequest
		res   ResyncResponse
	}{
		"view 0":           {ResyncRequest{Want: WantView}, ResyncResponse{Donor: []byte("d")}},
		"undescribed view": {ResyncRequest{Want: WantView}, ResyncResponse{View: 1}},
		"empty chunk":      {ResyncRequest{Want: WantChunk, View: 1}, ResyncResponse{}},
		"too many ranges":  {ResyncRequest{Want: WantRanges, View: 1, Ranges: 1}, ResyncResponse{Ranges: make([]StateRange, 2)}},
		"no range":         {ResyncRequest{Want: WantRanges, View: 1, Ranges: 1}, ResyncResponse{}},
		"audit of no view": {ResyncRequest{Want: WantAudit}, ResyncResponse{}},
		"too many items":   {ResyncRequest{Want: WantItems, View: 1}, ResyncResponse{Items: items(maxItems+1, 1)}},
		"items not asked":  {ResyncRequest{Want: WantChunk, View: 1}, ResyncResponse{Items: items(1, 1), Data: []byte("d")}},
		"item of nothing":  {ResyncRequest{Want: WantItems, View: 1}, ResyncResponse{Items: items(1, 0)}},
		"long item":        {ResyncRequest{Want: WantItems, View: 1}, ResyncResponse{Items: items(1, maxPositionBytes+1)}},
		"nothing and more": {ResyncRequest{Want: WantItems, View: 1}, ResyncResponse{Next: []byte("n")}},
		"endless range":    {ResyncRequest{Want: WantRanges, View: 1, Ranges: 1}, ResyncResponse{Ranges: make([]StateRange, 1)}},
	} {
		response, err := us.EncodeResyncResponse(AskedResync{c.asked, 1}, c.res)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := eu.DecodeResyncResponse(2, c.asked, response); !errors.Is(err, ErrBadCounts) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}
