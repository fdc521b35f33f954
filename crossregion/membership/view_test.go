package membership

import "testing"

func TestPublishedNeverGoesBack(t *testing.T) {
	var p Published
	s, changed := p.Current()
	if s.Founded() {
		t.Fatal("founded before anything was told")
	}
	p.Publish(&State{Epoch: 2})
	<-changed
	p.Publish(&State{Epoch: 1})
	if s, _ := p.Current(); s.Epoch != 2 {
		t.Errorf("went back to %d", s.Epoch)
	}
}
