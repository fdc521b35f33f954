package loopback

import (
	"net"
	"testing"
)

func TestFreeAddressesDifferAndCanBeListenedOn(t *testing.T) {
	addrs, err := Free(50)
	if err != nil || len(addrs) != 50 {
		t.Fatalf("%d addresses, %v", len(addrs), err)
	}
	for _, addr := range addrs {
		listener, err := net.Listen("tcp", addr) // fails if the address came before
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		port := listener.Addr().(*net.TCPAddr).Port
		if port < firstPort || port > lastPort {
			t.Errorf("port %d is one that connections get", port)
		}
	}
}

// What was found is not listened on at once, and must not be found by another meanwhile.
func TestNothingIsFoundTwice(t *testing.T) {
	seen := map[string]bool{}
	for range 500 {
		addrs, err := Free(4)
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range addrs {
			if seen[addr] {
				t.Fatalf("%s is found twice", addr)
			}
			seen[addr] = true
		}
	}
}

func TestTooManyIsAnError(t *testing.T) {
	if _, err := Free(lastPort - firstPort + 2); err == nil {
		t.Error("more addresses than ports")
	}
}
