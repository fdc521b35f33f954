package store

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashPathEnv); path != "" {
		crashWriter(path)
		return
	}
	goleak.VerifyTestMain(m)
}
