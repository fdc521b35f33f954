package raftlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// Entry is one Raft log entry. Kind, Extensions and AppendedAt are the Raft library's.
type Entry struct {
	Index, Term      uint64
	Kind             uint8
	Data, Extensions []byte
	AppendedAt       time.Time
}

const (
	// MaxEntryBytes bounds an entry's data and extensions together.
	MaxEntryBytes = 32 << 20

	tableEntries = 'l'
	tableStable  = 's'

	groupBytes    = 1 + 4
	entryKeyBytes = groupBytes + 8
	crcBytes      = 4
	recordVersion = 1
	// overheadBytes is the most that a record adds to an entry's data and extensions.
	overheadBytes = entryKeyBytes + crcBytes + 2 + 3*binary.MaxVarintLen64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func groupPrefix(table byte, group uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{table}, group)
}

func entryKey(group uint32, index uint64) []byte {
	return appendEntryKey(make([]byte, 0, entryKeyBytes), group, index)
}

func appendEntryKey(b []byte, group uint32, index uint64) []byte {
	b = binary.BigEndian.AppendUint32(append(b, tableEntries), group)
	return binary.BigEndian.AppendUint64(b, index)
}

// seal writes the checksum of key and record[crcBytes:] into record.
func seal(key, record []byte) {
	sum := crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, record[crcBytes:])
	binary.BigEndian.PutUint32(record, sum)
}

// unseal tests a record's checksum and returns what it protects.
func unseal(key, record []byte) ([]byte, bool) {
	if len(record) < crcBytes {
		return nil, false
	}
	body := record[crcBytes:]
	sum := crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, body)
	return body, sum == binary.BigEndian.Uint32(record)
}

// appendRecord appends e's record under key to b.
func appendRecord(b, key []byte, e *Entry) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, recordVersion, e.Kind)
	b = binary.AppendUvarint(b, e.Term)
	var appended int64
	if !e.AppendedAt.IsZero() {
		appended = e.AppendedAt.UnixNano()
	}
	b = binary.AppendVarint(b, appended)
	b = binary.AppendUvarint(b, uint64(len(e.Extensions)))
	b = append(b, e.Extensions...)
	b = append(b, e.Data...)
	seal(key, b[start:])
	return b
}

// parseRecord reads a record. The entry shares record's memory.
func parseRecord(key, record []byte, index uint64) (Entry, error) {
	body, ok := unseal(key, record)
	if !ok {
		return Entry{}, fmt.Errorf("entry %d: checksum mismatch", index)
	}
	// From here on a fault is a writer's, not the disk's: the checksum held.
	bad := fmt.Errorf("entry %d: malformed record", index)
	if len(body) < 2 || body[0] != recordVersion {
		return Entry{}, bad
	}
	e := Entry{Index: index, Kind: body[1]}
	rest := body[2:]
	var n int
	if e.Term, n = binary.Uvarint(rest); n <= 0 {
		return Entry{}, bad
	}
	rest = rest[n:]
	appended, n := binary.Varint(rest)
	if n <= 0 {
		return Entry{}, bad
	}
	if appended != 0 {
		e.AppendedAt = time.Unix(0, appended)
	}
	rest = rest[n:]
	extensions, n := binary.Uvarint(rest)
	if n <= 0 || extensions > uint64(len(rest)-n) {
		return Entry{}, bad
	}
	rest = rest[n:]
	if extensions > 0 {
		e.Extensions = rest[:extensions:extensions]
	}
	e.Data = rest[extensions:]
	return e, nil
}
