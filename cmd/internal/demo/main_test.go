package demo

import (
	"testing"

	"github.com/atolldb/atoll/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.NodeLeftovers()...) }
