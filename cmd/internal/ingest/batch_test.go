package ingest

import (
	"testing"
	"time"
)

// TestBatchesJoinAddsToOneValue: adds to one value become one write, with the time to live that the last that has
// one would leave. Adds to other values stay apart, and so do those to a key and to leaves of the map there.
func TestBatchesJoinAddsToOneValue(t *testing.T) {
	b := newBatch(0)
	add := func(ttl time.Duration, element, key string, path ...string) Write {
		return Write{Kind: KindSetAdd, Key: key, Path: path, Elements: [][]byte{[]byte(element)}, TTL: ttl}
	}
	for i, w := range []Write{
		add(0, "1", "k"), add(0, "2", "k", "a"), add(0, "3", "k", "b"), add(0, "4", "k", "a", "b"), add(0, "5", "k", "a b"),
		add(time.Minute, "6", "k", "a"), add(0, "7", "k", "a"), add(time.Hour, "8", "k"), add(0, "9", `k" ["a`),
	} {
		b.add(Source{Number: int64(i)}, []Write{w})
	}
	want := "sadd k=1|8; sadd k[a]=2|6|7; sadd k[b]=3; sadd k[a b]=4; sadd k[a b]=5; sadd k\" [\"a=9"
	if got := show(b.Writes); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if b.Writes[0].TTL != time.Hour || b.Writes[1].TTL != time.Minute || b.Writes[2].TTL != 0 {
		t.Errorf("times to live of %v", b.Writes)
	}
	if sources := b.SourcesOf(1); len(sources) != 3 || sources[2].Number != 6 {
		t.Errorf("sources %v", sources)
	}
}
