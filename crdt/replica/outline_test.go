package replica

import (
	"errors"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

func TestOutlinesAgreeWithWhatIsDecoded(t *testing.T) {
	names, runs := goldenRuns(t)
	_, deltas := goldenDeltas(t)
	encoded := map[string][]byte{}
	for i, name := range names {
		encoded["run of "+name] = EncodeRun(runs[i])
	}
	for _, d := range deltas {
		encoded["delta"] = EncodeDelta(d)
	}
	for name, data := range encoded {
		run, err := DecodeRunOrDelta(data)
		if err != nil {
			t.Fatal(err)
		}
		o, err := ReadOutline(data)
		want := Outline{Actor: run.Actor(), From: run.From, To: run.To(), First: run.Deltas[0].Time, Last: run.Time()}
		if err != nil || o != want {
			t.Errorf("%s: %+v, %v, want %+v", name, o, err, want)
		}
		for n := range min(len(data), 4) {
			if o, err := ReadOutline(data[:n]); !errors.Is(err, crdt.ErrCorrupt) {
				t.Errorf("%s cut to %d bytes: %+v, %v", name, n, o, err)
			}
		}
	}
}
