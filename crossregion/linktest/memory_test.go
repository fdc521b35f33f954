package linktest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	var m Memory
	Run(t, Pair{
		Origin: m.Link(1), Destination: m.Link(2), OriginID: 1, DestinationID: 2,
		Wipe: func() { m.Wipe(1) },
	})
}
