package invariant

import "testing"

func TestCheckPassesWhatHolds(t *testing.T) {
	Check(true, "never seen")
}

func TestCheckPanicsWithTheMessage(t *testing.T) {
	defer func() {
		if got := recover(); got != "invariant violated: applied 7 is past committed 5" {
			t.Errorf("recovered %v", got)
		}
	}()
	Check(false, "applied %d is past committed %d", 7, 5)
}
