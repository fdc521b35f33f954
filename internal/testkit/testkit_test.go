package testkit

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// recorder stands in for the test that a helper fails.
type recorder struct {
	testing.TB
	fatal string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) { r.fatal = fmt.Sprintf(format, args...) }

func TestEventuallyReturnsWhenTheConditionHolds(t *testing.T) {
	calls := 0
	Eventually(t, time.Minute, func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 3 {
		t.Errorf("looked %d times", calls)
	}
}

func TestEventuallyFailsWithTheLastError(t *testing.T) {
	r := &recorder{}
	Eventually(r, 20*time.Millisecond, func() error { return errors.New("two of three") })
	if !strings.Contains(r.fatal, "two of three") || !strings.Contains(r.fatal, "20ms") {
		t.Errorf("failed with %q", r.fatal)
	}
}

func TestFreeAddrsDifferAndAreFree(t *testing.T) {
	seen := map[string]bool{}
	for _, addr := range FreeAddrs(t, 8) {
		if seen[addr] {
			t.Errorf("%s came twice", addr)
		}
		seen[addr] = true
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("%s is not free: %v", addr, err)
		}
		listener.Close()
	}
}
