package ingest

import "fmt"

// A request holds at most 4 MiB and 10 000 writes; a batch stays below both, whatever the overhead
// of the encoding.
const (
	maxBatchBytes    = 3 << 20
	maxBatchWrites   = 8000
	maxWriteElements = 8000
)

// Batch is what is sent at once.
type Batch struct {
	// Number counts the batches of an import from 0.
	Number int64
	Writes []Write
	// Records are the records that the batch holds, in order.
	Records []Source
	// Last is the number of the last record that went into this batch or, if bad, was met before it
	// was full.
	Last int64

	bytes   int
	sources [][]int32 // for each write, the indexes in Records of those that asked for it
	adds    map[string]int
}

// Source is where a record came from.
type Source struct{ Number, Line int64 }

func newBatch(number int64) *Batch {
	return &Batch{Number: number, adds: map[string]int{}}
}

// SourcesOf returns the records that asked for a write.
func (b *Batch) SourcesOf(write int) []Source {
	var out []Source
	for _, i := range b.sources[write] {
		out = append(out, b.Records[i])
	}
	return out
}

func sizeOf(writes []Write) int {
	n := 0
	for i := range writes {
		n += writes[i].bytes()
	}
	return n
}

// fits reports whether another record's writes can go into the batch.
func (b *Batch) fits(writes []Write, records int) bool {
	return len(b.Records) < records &&
		len(b.Writes)+len(writes) <= maxBatchWrites &&
		b.bytes+sizeOf(writes) <= maxBatchBytes
}

// add puts a record's writes in. Adds to one counter become one write, and so do adds to one set:
// the server does less work, and the answer is the same because both commute.
func (b *Batch) add(from Source, writes []Write) {
	record := int32(len(b.Records))
	b.Records = append(b.Records, from)
	b.bytes += sizeOf(writes)
	for _, w := range writes {
		at, merged := b.merge(w)
		if !merged {
			at = len(b.Writes)
			b.Writes = append(b.Writes, w)
			b.sources = append(b.sources, nil)
			if w.Kind == KindCounterAdd || w.Kind == KindSetAdd {
				b.adds[mergeKey(w)] = at
			}
		}
		if s := b.sources[at]; len(s) == 0 || s[len(s)-1] != record {
			b.sources[at] = append(s, record)
		}
	}
}

func (b *Batch) merge(w Write) (int, bool) {
	at, found := b.adds[mergeKey(w)]
	if !found || (w.Kind != KindCounterAdd && w.Kind != KindSetAdd) {
		return 0, false
	}
	into := &b.Writes[at]
	switch {
	case w.Kind == KindCounterAdd:
		into.Delta += w.Delta
	case len(into.Elements)+len(w.Elements) > maxWriteElements:
		return 0, false
	default:
		into.Elements = append(into.Elements, w.Elements...)
	}
	if w.TTL > 0 { // a later write without one leaves it
		into.TTL = w.TTL
	}
	return at, true
}

// mergeKey names a kind of write of one value.
func mergeKey(w Write) string {
	name := string(rune(w.Kind)) + w.Key
	if len(w.Path) > 0 {
		name = fmt.Sprintf("\x00%d %q %q", w.Kind, w.Key, w.Path)
	}
	return name
}
